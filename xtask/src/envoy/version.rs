//! Envoy's version.

use std::fmt;

/// A released version; newer ones compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
    /// Patch.
    pub patch: u32,
}

impl Version {
    /// Finds the version in what `envoy --version` prints:
    /// `envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`.
    #[must_use]
    pub fn from_banner(banner: &str) -> Option<Self> {
        let (_, after) = banner.split_once("version:")?;
        let mut parts = after.trim().split('/');
        let is_commit =
            |part: &str| part.len() == 40 && part.bytes().all(|b| b.is_ascii_hexdigit());
        parts.next().filter(|part| is_commit(part))?;
        Self::parse(parts.next()?)
    }

    /// Reads `1.40.0`, `1.40.0-dev` too.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let numbers = text.split('-').next()?;
        let mut parts = numbers.split('.').map(|part| part.parse().ok());
        let version = Self { major: parts.next()??, minor: parts.next()??, patch: parts.next()?? };
        parts.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    const BANNER: &str = "\n/opt/envoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL\n\n";

    #[test]
    fn the_version_is_found_in_the_banner() {
        let version = Version::from_banner(BANNER);
        assert_eq!(version, Some(Version { major: 1, minor: 40, patch: 0 }));
    }

    #[test]
    fn versions_compare_by_number_not_by_text() {
        let [old, new] = ["1.9.12", "1.40.1-dev"].map(|text| Version::parse(text).unwrap());
        assert!(old < new);
    }

    #[test]
    fn another_program_has_no_envoy_version() {
        for banner in ["", "nginx version: nginx/1.22.1", "envoy version: x/y/z", "version: a/1.40"]
        {
            assert_eq!(Version::from_banner(banner), None, "{banner}");
        }
    }
}
