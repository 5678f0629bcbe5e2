//! The gate itself: from the facts of a request to a decision.
//!
//! | file | what it decides |
//! |---|---|
//! | here | the way of a request through the layers |
//! | `credential` | layers 0 to 4, on the key's text |
//! | `known` | layers 6 to 8, on what is known of the key |
//! | `lookup` | layer 5: asking the control plane, and what its answers mean |
//! | `limit` | rate limits |
//! | `shared_limit` | those that a fleet shares |

mod credential;
mod known;
mod limit;
mod lookup;
mod shared_limit;

use edge_protocol::{EventKind, Reach};
use filter_config::{Config, KEY_LIMIT, Layer};
use siphasher::sip128::SipHasher24;
use std::collections::VecDeque;

use crate::ClientAddress;
use crate::audit::{About, AuditTrail, LogLine, LogTakes};
use crate::cache::{EntryIndex, Identity, KeyCache, KeyHash};
use crate::delivery::Delivery;
use crate::feed::Feed;
use crate::fleet::{Asks, Fleet};
use crate::flights::Flights;
use crate::limits::{
    Counters, FAILED_ATTEMPTS, LimitReport, RateLimitHeaders, RuleHash, SharedSlots,
};
use crate::message::{Answer, Call, Message};
use crate::problem::{Problem, Refusal};
use crate::request::{Credential, Now, Request, StreamId};
use crate::routes::Plan;
use crate::tally::{Counter, Tally};
use crate::unknown::UnknownKeys;
use crate::usage::Usage;

use self::shared_limit::Waiting;

/// How long events and usage may take to be stored, in milliseconds.
const EVENTS_TIMEOUT_MS: u32 = 5_000;

/// What the name of an Envoy is the hash of.
const ENVOY: &[u8] = b"the name of this Envoy";

/// How long the control plane is left alone after it could not be reached, in milliseconds.
const REST_MS: u64 = 500;

/// A clock that goes back by less than this, in milliseconds, is only unsteady.
const SET_BACK_MS: u64 = 100;

/// The random numbers that a gate starts from.
#[derive(Clone, Copy)]
pub struct Seeds {
    /// Keys the hash of this worker's caches.
    pub cache: [u8; 16],
    /// Keys the hash by which all workers of the proxy find the same slot: the same for all.
    pub shared: [u8; 16],
    /// Names this worker's life to the control plane.
    pub source: [u8; 16],
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes on to the upstream.
    Pass(Pass),
    /// It is answered here.
    Refuse(Refusal),
    /// It waits: [`Gate::on_answer`] will decide.
    Wait,
}

/// A request that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The key that it came with, for [`Gate::identity`].
    pub entry: Option<EntryIndex>,
    /// How the limit nearest to its end stands.
    pub report: Option<LimitReport>,
}

/// The decision engine of one worker.
pub struct Gate {
    config: Config,
    hasher: SipHasher24,
    counters: Counters,
    /// What the limits of the configuration are counted under, in its order.
    rules: Box<[RuleHash]>,
    /// What failed attempts are counted under.
    failures: RuleHash,
    known: KeyCache,
    unknown: UnknownKeys,
    flights: Flights,
    fleet: Fleet,
    asks: Asks<Waiting>,
    /// The name of this Envoy in its fleet.
    envoy: String,
    /// Whether there are limits that the fleet shares.
    shares_limits: bool,
    /// Until when the control plane is not asked for more of them after an ask has failed.
    asks_rest_until_ms: u64,
    feed: Feed,
    audit: AuditTrail,
    usage: Usage,
    delivery: Delivery,
    tally: Tally,
    outbox: VecDeque<Message>,
    /// Whether a request was ever seen: a worker that serves none says nothing.
    awake: bool,
    /// The time of the last call, to notice when the clock was set back.
    last_now_ms: u64,
    /// Until when the control plane is not asked again after it could not be reached.
    rest_until_ms: u64,
    /// Whether its last answer was one. While it is not, old answers serve at once.
    reachable: bool,
}

/// The facts of a request that is being decided, small enough to be kept while it waits.
#[derive(Clone, Copy, Debug)]
struct Facts {
    stream: StreamId,
    plan: Plan,
    client: Option<ClientAddress>,
}

impl Gate {
    /// A gate that knows no key yet.
    #[must_use]
    pub fn new(config: Config, seeds: Seeds) -> Self {
        let counters = Counters::new(seeds.shared);
        let rules = config.limits.iter();
        let rules = rules.map(|limit| counters.rule(&limit.name, limit.quota.seconds)).collect();
        let failures = counters.rule(FAILED_ATTEMPTS, config.failed_attempts.seconds);
        let [a, b, c, d, ..] = seeds.source;
        Self {
            hasher: SipHasher24::new_with_key(&seeds.cache),
            fleet: Fleet::new(counters.hash(config.control_plane.cluster.as_bytes())),
            asks: Asks::new(u32::from_le_bytes([a, b, c, d])),
            envoy: format!("{:016x}", counters.hash(ENVOY)),
            shares_limits: config.limits.iter().any(|limit| limit.reach == Reach::Fleet),
            asks_rest_until_ms: 0,
            counters,
            rules,
            failures,
            known: KeyCache::new(config.cache.keys),
            unknown: UnknownKeys::new(),
            flights: Flights::new(),
            feed: Feed::new(),
            audit: AuditTrail::new(config.audit.on_backlog_full),
            usage: Usage::new(),
            delivery: Delivery::new(seeds.source),
            tally: Tally::new(),
            outbox: VecDeque::new(),
            awake: false,
            last_now_ms: 0,
            rest_until_ms: 0,
            reachable: true,
            config,
        }
    }

    /// Decides on a request. For a key that is known and fresh this allocates nothing.
    pub fn on_request(
        &mut self,
        request: &Request<'_>,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Decision {
        self.awake = true;
        self.audit.concerns(Some(request.stream));
        self.observe(now);
        if self.audit.must_refuse() {
            self.tally.count(Counter::BacklogFull);
            return Decision::Refuse(self.unavailable());
        }
        let client = request.client;
        let Ok(plan) = Plan::of(&self.config, request.method, request.path) else {
            let about = About { client, ..About::default() };
            self.record(EventKind::SecurityViolation, about, "reason=ambiguous_path", false, now);
            return Decision::Refuse(self.refusal(Problem::AmbiguousPath));
        };
        let facts = Facts { stream: request.stream, plan, client };
        if plan.public {
            return self.limit(facts, now, slots);
        }
        let key = match request.credential {
            Credential::One(key) if !key.is_empty() => key,
            Credential::One(_) | Credential::Absent => {
                return self.without_key(facts, now, slots);
            }
            Credential::Several => {
                return self.with_several_keys(facts, now, slots);
            }
        };
        if key.len() > self.config.policy.max_length {
            return self.with_bad_key(key, facts, now, slots);
        }
        let hash = self.hash(key);
        if let Some(entry) = self.known.find(hash) {
            return self.with_known_key(entry, hash, key, facts, now, slots);
        }
        self.with_unknown_key(hash, key, facts, now, slots)
    }

    /// Takes in the answer to a call, and decides on the requests that waited for it.
    pub fn on_answer(
        &mut self,
        call: Call,
        answer: &Answer<'_>,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Vec<(StreamId, Decision)> {
        self.observe(now);
        self.audit.concerns(None);
        if answer.status != 200 {
            self.tally.count(Counter::CallFailed);
        }
        let mut decided = match call {
            Call::Verify(flight) => self.on_verified(flight, answer, now, slots),
            Call::Leases(call) => self.on_leases(call, answer, now, slots),
            Call::Events => {
                self.delivery.on_answer(answer, &mut self.audit, &mut self.usage, now);
                Vec::new()
            }
            Call::Changes => {
                match answer.ok() {
                    None => self.feed.on_failure(now),
                    Some(changes) => self.on_changes(changes, now),
                }
                Vec::new()
            }
        };
        // Who waits for something else now is not decided on.
        decided.retain(|(_, decision)| *decision != Decision::Wait);
        decided
    }

    /// The next call about a key or a limit: what is to be made at once, on a request's own time.
    pub fn next_question(&mut self) -> Option<Message> {
        self.outbox.pop_front().or_else(|| self.lease_call(None))
    }

    /// Whether there is one.
    #[must_use]
    pub fn has_question(&self) -> bool {
        !self.outbox.is_empty() || self.asks.is_ready()
    }

    /// The next call to make to the control plane. To be asked after each call into the gate,
    /// and at least ten times a second, until there is none.
    pub fn next_message(&mut self, now: Now, slots: &mut impl SharedSlots) -> Option<Message> {
        self.observe(now);
        if let Some(message) = self.next_question() {
            return Some(message);
        }
        if !self.awake {
            return None;
        }
        if self.shares_limits
            && let Some(presence) = self.fleet.due(now, slots)
        {
            return self.lease_call(Some(presence));
        }
        if let Some(query) = self.feed.next_poll(now) {
            return Some(Message::changes(&query, Feed::TIMEOUT_MS));
        }
        self.audit.concerns(None);
        self.delivery
            .next_batch(&mut self.audit, &mut self.usage, now)
            .map(|batch| Message::events(batch, EVENTS_TIMEOUT_MS))
    }

    /// Who a passed request comes from. Valid until the gate is next called.
    #[must_use]
    pub fn identity(&self, entry: EntryIndex) -> Option<Identity<'_>> {
        self.known.get(entry).map(|entry| Identity {
            key_id: &entry.record.key_id_text,
            scope: entry.record.scope.as_str(),
            owner: entry.record.owner.as_deref(),
        })
    }

    /// What the headers about a report call its limit.
    #[must_use]
    pub fn limit_name(&self, report: &LimitReport) -> &str {
        report
            .rule
            .and_then(|rule| self.config.limits.get(usize::from(rule)))
            .map_or(KEY_LIMIT, |rule| &rule.name)
    }

    /// Which headers tell clients about their limits.
    #[must_use]
    pub fn rate_limit_headers(&self) -> RateLimitHeaders {
        RateLimitHeaders { x_ratelimit: self.config.x_ratelimit, ietf: self.config.ietf_headers }
    }

    /// The configuration that the gate works by.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Says which lines the log takes; until then it takes all.
    pub fn set_log(&mut self, takes: LogTakes) {
        self.audit.set_log(takes);
    }

    /// The lines for the log since the last call, and what each is about.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        self.audit.take_log()
    }

    /// Whether there are any.
    #[must_use]
    pub fn has_log(&self) -> bool {
        self.audit.has_log()
    }

    /// What was counted for metrics.
    pub fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    fn on_changes(&mut self, changes: edge_protocol::ChangesAnswer, now: Now) {
        self.reachable = true;
        self.tally.add(Counter::FeedChange, changes.changes.len());
        if self.feed.on_answer(changes, now, &mut self.known, &mut self.unknown) {
            self.tally.count(Counter::FeedReset);
        }
    }

    /// Notices when the clock was set back: whatever was noted by it moves along, so that nothing
    /// lasts longer for it. Set forward, it only makes things old before their time.
    fn observe(&mut self, now: Now) {
        let back_ms = self.last_now_ms.saturating_sub(now.unix_ms());
        self.last_now_ms = now.unix_ms();
        if back_ms >= SET_BACK_MS {
            self.known.set_back(back_ms);
            self.unknown.clear();
            self.feed.set_back(back_ms);
            self.audit.set_back(back_ms);
            self.usage.set_back(back_ms);
            self.delivery.set_back(back_ms);
            self.rest_until_ms = self.rest_until_ms.saturating_sub(back_ms);
            self.asks_rest_until_ms = self.asks_rest_until_ms.saturating_sub(back_ms);
        }
    }

    fn hash(&self, key: &[u8]) -> KeyHash {
        let hash = self.hasher.hash(key);
        KeyHash(u128::from(hash.h1) << 64 | u128::from(hash.h2))
    }

    fn refusal(&self, problem: Problem) -> Refusal {
        let unauthorized = self.config.unauthorized;
        Refusal { problem, unauthorized, retry_after: None, report: None }
    }

    fn unavailable(&self) -> Refusal {
        Refusal { retry_after: Some(1), ..self.refusal(Problem::Unavailable) }
    }

    /// A layer has found against a request: writes that down, and says whether the request is
    /// to be refused; in shadow mode it is not.
    fn finds_against(
        &mut self,
        layer: Layer,
        kind: EventKind,
        about: About<'_>,
        details: &str,
        now: Now,
    ) -> bool {
        let shadow = self.config.shadow.contains(layer);
        self.record(kind, about, details, shadow, now);
        !shadow
    }

    fn record(&mut self, kind: EventKind, about: About<'_>, details: &str, shadow: bool, now: Now) {
        self.tally.count(if shadow { Counter::WouldRefuse } else { counter_of(kind) });
        if !self.audit.record(kind, about, details.to_owned(), shadow, now) {
            self.tally.count(Counter::EventDropped);
        }
    }
}

fn counter_of(kind: EventKind) -> Counter {
    match kind {
        EventKind::MissingApiKey => Counter::MissingApiKey,
        EventKind::InvalidFormat => Counter::InvalidFormat,
        EventKind::InvalidKey => Counter::InvalidKey,
        EventKind::DbError => Counter::DbError,
        EventKind::ExpiredKey => Counter::ExpiredKey,
        EventKind::RevokedKey => Counter::RevokedKey,
        EventKind::IpDenied => Counter::IpDenied,
        EventKind::ScopeDenied => Counter::ScopeDenied,
        EventKind::RateLimited => Counter::RateLimited,
        _ => Counter::SecurityViolation,
    }
}
