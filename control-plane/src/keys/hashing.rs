//! The slow hash of a key, as it is stored.

use pbkdf2::{Algorithm, Params, pbkdf2_hmac_with_params};
use std::fmt;
use subtle::ConstantTimeEq;

/// How many iterations a new key's hash takes. Keys have 190 random bits, so the number adds
/// little against guessing; it is the contract, and it is stored with each key so that it can
/// grow. What one costs is measured and logged when the service starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Iterations(u32);

impl Iterations {
    /// The default, and in production the least.
    pub const STANDARD: u32 = 100_000;
    /// Fewer mean nothing.
    pub const LEAST: u32 = 1000;
    /// A hash of more than this takes seconds, and every new key with it.
    pub const MOST: u32 = 10_000_000;

    /// So many, if that is a number that makes sense.
    #[must_use]
    pub fn new(iterations: u32) -> Option<Self> {
        (Self::LEAST..=Self::MOST).contains(&iterations).then_some(Self(iterations))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for Iterations {
    fn default() -> Self {
        Self(Self::STANDARD)
    }
}

/// Which slow hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// PBKDF2 (RFC 8018 section 5.2) with HMAC-SHA256.
    Pbkdf2HmacSha256,
}

impl HashAlgorithm {
    /// The name it is stored under.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pbkdf2HmacSha256 => "pbkdf2-hmac-sha256",
        }
    }

    /// The algorithm of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        (name == Self::Pbkdf2HmacSha256.as_str()).then_some(Self::Pbkdf2HmacSha256)
    }
}

/// How a key is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashRecipe {
    algorithm: HashAlgorithm,
    params: Params,
    salt: [u8; 16],
}

impl HashRecipe {
    /// The recipe with these parts; `None` when the iterations are too few to mean anything
    /// (fewer than 1000).
    #[must_use]
    pub fn new(algorithm: HashAlgorithm, iterations: u32, salt: [u8; 16]) -> Option<Self> {
        Some(Self { algorithm, params: Params::new(iterations).ok()?, salt })
    }

    /// What new keys get.
    #[must_use]
    pub fn current(iterations: Iterations, salt: [u8; 16]) -> Self {
        // Every number that `Iterations` lets pass is one that `Params` takes.
        let params = Params::new(iterations.0).unwrap_or(Params::RECOMMENDED);
        Self { algorithm: HashAlgorithm::Pbkdf2HmacSha256, params, salt }
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// Its iterations.
    #[must_use]
    pub fn iterations(&self) -> u32 {
        self.params.rounds()
    }

    /// The salt, random for each key.
    #[must_use]
    pub fn salt(&self) -> &[u8; 16] {
        &self.salt
    }

    /// Hashes a key. This takes milliseconds of CPU: it belongs on a thread of the hashing pool.
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> [u8; 32] {
        let HashAlgorithm::Pbkdf2HmacSha256 = self.algorithm;
        let mut digest = [0; 32];
        // The variant that is not generic is optimised where it is defined, in debug builds too.
        pbkdf2_hmac_with_params(key, &self.salt, Algorithm::Pbkdf2Sha256, self.params, &mut digest);
        digest
    }
}

/// A key's stored hash.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretHash {
    /// How it was made.
    pub recipe: HashRecipe,
    /// What came out.
    pub digest: [u8; 32],
}

impl SecretHash {
    /// Whether `digest`, made with the same recipe, is the same; in constant time.
    #[must_use]
    pub fn matches(&self, digest: &[u8; 32]) -> bool {
        self.digest.ct_eq(digest).into()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SecretHash({}, {} iterations)",
            self.recipe.algorithm.as_str(),
            self.recipe.iterations()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::Sha256;

    fn recipe(iterations: u32, salt: [u8; 16]) -> HashRecipe {
        HashRecipe::new(HashAlgorithm::Pbkdf2HmacSha256, iterations, salt)
            .expect("enough iterations")
    }

    /// RFC 7914 section 11.
    #[test]
    fn the_hash_is_pbkdf2_hmac_sha256_by_the_published_vectors() {
        let once = pbkdf2::pbkdf2_hmac_array::<Sha256, 64>(b"passwd", b"salt", 1);
        assert_eq!(
            hex::encode(once),
            "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc\
             49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783"
        );
        let mut often = [0; 64];
        let params = Params::new(80_000).expect("enough");
        pbkdf2_hmac_with_params(b"Password", b"NaCl", Algorithm::Pbkdf2Sha256, params, &mut often);
        assert_eq!(
            hex::encode(often),
            "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56\
             a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d"
        );
    }

    #[test]
    fn a_recipe_hashes_with_its_own_salt_and_iterations() {
        // Python: hashlib.pbkdf2_hmac("sha256", b"a key", bytes([7] * 16), 1000)
        assert_eq!(
            hex::encode(recipe(1000, [7; 16]).hash(b"a key")),
            "3788b50ff99d1377ebaa81502c0c616e873e7343673054d8cbb298a7a9515f7a"
        );
        assert_ne!(recipe(1000, [7; 16]).hash(b"a key"), recipe(1001, [7; 16]).hash(b"a key"));
        assert_ne!(recipe(1000, [7; 16]).hash(b"a key"), recipe(1000, [8; 16]).hash(b"a key"));
    }

    #[test]
    fn a_new_key_gets_a_hundred_thousand_iterations_and_none_may_have_under_a_thousand() {
        assert_eq!(HashRecipe::current(Iterations::default(), [0; 16]).iterations(), 100_000);
        assert!(Iterations::new(999).is_none() && Iterations::new(10_000_001).is_none());
        assert!(HashRecipe::new(HashAlgorithm::Pbkdf2HmacSha256, 999, [0; 16]).is_none());
    }

    #[test]
    fn only_the_same_digest_matches() {
        let recipe = recipe(1000, [0; 16]);
        let stored = SecretHash { recipe, digest: recipe.hash(b"right") };
        assert!(stored.matches(&recipe.hash(b"right")));
        assert!(!stored.matches(&recipe.hash(b"wrong")));
        let mut one_bit_off = stored.digest;
        one_bit_off[31] ^= 1;
        assert!(!stored.matches(&one_bit_off));
    }
}
