//! The layers of the gate.

/// One of the checks that a request goes through, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// 0: at most one credential, of sane bytes.
    Credential,
    /// 1: there is a credential.
    Presence,
    /// 2: its environment is allowed here.
    Environment,
    /// 3: length, kinds of characters, entropy, checksum.
    Format,
    /// 4: no weak patterns.
    WeakPatterns,
    /// 5: the control plane knows it.
    Known,
    /// 6: neither expired nor revoked.
    Expiry,
    /// 7: the client's address is in the key's networks.
    Address,
    /// 8: the key's scope covers what is asked.
    Scope,
    /// Failed credentials of one address.
    FailedAttempts,
}

impl Layer {
    /// Every layer, in order.
    pub const ALL: [Self; 10] = [
        Self::Credential,
        Self::Presence,
        Self::Environment,
        Self::Format,
        Self::WeakPatterns,
        Self::Known,
        Self::Expiry,
        Self::Address,
        Self::Scope,
        Self::FailedAttempts,
    ];

    /// The name by which the configuration's `shadow` list knows it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Presence => "presence",
            Self::Environment => "environment",
            Self::Format => "format",
            Self::WeakPatterns => "weak_patterns",
            Self::Known => "known",
            Self::Expiry => "expiry",
            Self::Address => "address",
            Self::Scope => "scope",
            Self::FailedAttempts => "failed_attempts",
        }
    }

    /// The layer of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|layer| layer.as_str() == name)
    }
}

/// A set of layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerSet(u16);

impl LayerSet {
    pub(crate) fn insert(&mut self, layer: Layer) {
        self.0 |= 1 << layer as u16;
    }

    /// Whether a layer is one of them.
    #[must_use]
    pub fn contains(self, layer: Layer) -> bool {
        self.0 & (1 << layer as u16) != 0
    }
}
