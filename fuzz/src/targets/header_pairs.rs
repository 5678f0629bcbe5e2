//! Lists of headers, as the proxy hands them over. The filter is WebAssembly and nothing imports it;
//! this file of it knows no host, and is looked at by itself.

use arbitrary::{Result, Unstructured};

#[path = "../../../filter/src/pairs.rs"]
mod pairs;

use pairs::{PairsWriter, pairs};

pub(crate) fn run(data: &[u8]) {
    // No list has more pairs than it has room for.
    assert!(pairs(data).count() <= data.len() / 8);
    let total: usize = pairs(data).map(|(name, value)| name.len() + value.len() + 2).sum();
    assert!(total <= data.len());
    let _ = written(&mut Unstructured::new(data));
}

fn written(input: &mut Unstructured<'_>) -> Result<()> {
    let list: Vec<(Vec<u8>, Vec<u8>)> = input.arbitrary()?;
    let mut writer = PairsWriter::new();
    for (name, value) in &list {
        writer.add(name, value);
    }
    let written = writer.list();
    let bytes = written.as_slice();
    let expected = list.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    assert!(pairs(bytes).eq(expected.clone()), "read as it was written");
    // A list that is cut off is the beginning of the whole one.
    let cut = &bytes[..input.int_in_range(0..=bytes.len())?];
    let count = pairs(cut).count();
    assert!(pairs(cut).eq(expected.take(count)), "a part is a beginning");
    Ok(())
}
