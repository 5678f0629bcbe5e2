//! Lists of header pairs, as the ABI passes them: the number of pairs, the lengths of each name
//! and value, then the names and values, each followed by a zero byte. Numbers are 32 bits,
//! little-endian.

/// Goes through a list of pairs. What does not hold together ends the list.
pub(crate) fn pairs(list: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let count = word(list, 0).unwrap_or(0);
    let mut lengths = list.get(4..).unwrap_or_default().as_chunks::<4>().0.iter().take(count * 2);
    let mut rest = count.checked_mul(8).and_then(|n| list.get(4 + n..)).unwrap_or_default();
    std::iter::from_fn(move || {
        let name_len = length(*lengths.next()?)?;
        let value_len = length(*lengths.next()?)?;
        let (name, after) = rest.split_at_checked(name_len)?;
        let (value, after) = after.get(1..)?.split_at_checked(value_len)?;
        rest = after.get(1..)?;
        Some((name, value))
    })
}

fn word(list: &[u8], at: usize) -> Option<usize> {
    length(*list.get(at..)?.first_chunk::<4>()?)
}

fn length(bytes: [u8; 4]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

/// Builds a list of pairs.
pub(crate) struct PairsWriter {
    /// Names and values with their zero bytes.
    text: Vec<u8>,
    lengths: Vec<u8>,
    count: u32,
}

impl PairsWriter {
    pub(crate) fn new() -> Self {
        Self { text: Vec::new(), lengths: Vec::new(), count: 0 }
    }

    /// Adds a pair.
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) {
        self.count += 1;
        for part in [name, value] {
            let len = u32::try_from(part.len()).unwrap_or(0);
            self.lengths.extend_from_slice(&len.to_le_bytes());
            self.text.extend_from_slice(part);
            self.text.push(0);
        }
    }

    /// The list.
    pub(crate) fn list(&self) -> Vec<u8> {
        [self.count.to_le_bytes().as_slice(), &self.lengths, &self.text].concat()
    }
}
