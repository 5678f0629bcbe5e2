//! Bytes as hex digits in JSON, for `#[serde(with = …)]`.

use serde::{Deserialize, Deserializer, Serializer, de};

pub(super) fn serialize<S: Serializer>(bytes: &impl AsRef<[u8]>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&hex::encode(bytes))
}

pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
where
    T: TryFrom<Vec<u8>>,
    D: Deserializer<'de>,
{
    let bytes = hex::decode(String::deserialize(from)?).map_err(de::Error::custom)?;
    T::try_from(bytes).map_err(|_| de::Error::custom("another number of bytes is needed"))
}
