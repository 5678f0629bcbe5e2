//! Asks and answers as bytes, little-endian: `pool.lua` has the same in its formats.

use edge_protocol::leases::Grant;

use super::{
    code,
    pool::{Answer, Held, Outcome, Pool, Told},
    redis::PoolCall,
};

/// The most holders that Redis is told of when it may have forgotten a pool. Of more it gets to know
/// by what they ask.
const HOLDERS_TOLD: usize = 256;

/// An ask, with what is to be told of its pool.
pub(super) fn ask(call: &PoolCall) -> Vec<u8> {
    let PoolCall { terms, sizes, wish, behind, .. } = call;
    let mut record = Vec::with_capacity(96);
    record.push(code(terms.algorithm));
    record.extend(terms.slices.ms.to_le_bytes());
    record.extend(terms.slices.in_window.to_le_bytes());
    record.extend(sizes.pool.to_le_bytes());
    record.extend(sizes.whole.unwrap_or(0).to_le_bytes());
    record.extend(terms.requests.to_le_bytes());
    record.extend(wish.slice.to_le_bytes());
    record.extend(wish.granted.to_le_bytes());
    record.extend(wish.used.to_le_bytes());
    record.extend(wish.want.to_le_bytes());
    put_holder(&mut record, wish.envoy.0, wish.epoch);
    record.push(behind.pool.is_some().into());
    if let Some(pool) = &behind.pool {
        put_pool(&mut record, pool);
    }
    record
}

fn put_pool(record: &mut Vec<u8>, pool: &Pool) {
    record.extend(pool.latest.to_le_bytes());
    record.push(pool.small.into());
    record.extend(pool.level.to_le_bytes());
    put_count(record, pool.sums.len());
    for (slice, sum) in &pool.sums {
        record.extend(slice.to_le_bytes());
        record.extend(sum.to_le_bytes());
    }
    let told = pool.holders.len().min(HOLDERS_TOLD);
    put_count(record, told);
    for held in pool.holders.iter().take(told) {
        put_holder(record, held.envoy.0, held.epoch);
        record.extend(held.granted.to_le_bytes());
    }
}

/// As the field in Redis is called, which holds what numbers of scripts do not.
fn put_holder(record: &mut Vec<u8>, envoy: u64, epoch: u32) {
    let name = format!("{envoy}:{epoch}");
    // Two numbers have 31 characters at most.
    record.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    record.extend(name.into_bytes());
}

fn put_count(record: &mut Vec<u8>, items: usize) {
    record.extend(u32::try_from(items).unwrap_or(u32::MAX).to_le_bytes());
}

/// Takes the answer to an ask off those that are left; nothing when they are too short, or not answers.
pub(super) fn answer(call: &PoolCall, left: &mut &[u8]) -> Option<(Answer, Told)> {
    let outcome = match u8::from_le_bytes(take(left)?) {
        0 => Outcome::Counted,
        1 => Outcome::Closed,
        2 => Outcome::OutOfStep,
        3 => Outcome::Full,
        _ => return None,
    };
    let granted = u32::from_le_bytes(take(left)?);
    let room = u32::from_le_bytes(take(left)?);
    let again = u64::from_le_bytes(take(left)?);
    let grant = Grant { granted, left: room, again: (room == 0).then_some(again) };
    let fresh = u32::from_le_bytes(take(left)?);
    let (envoy, epoch) = (call.wish.envoy, call.wish.epoch);
    let told = Told {
        latest: u64::from_le_bytes(take(left)?),
        small: u8::from_le_bytes(take(left)?) == 1,
        level: u64::from_le_bytes(take(left)?),
        current: u64::from_le_bytes(take(left)?),
        held: (outcome == Outcome::Counted).then_some(Held { envoy, epoch, granted }),
    };
    Some((Answer { grant, outcome, fresh }, told))
}

fn take<const N: usize>(left: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = left.split_first_chunk()?;
    *left = rest;
    Some(*first)
}
