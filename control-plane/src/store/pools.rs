//! What a database is like at the moment, for the metrics.

/// The connections of one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolState {
    /// Its name.
    pub name: &'static str,
    /// Connections that somebody works with.
    pub in_use: u32,
    /// Connections that wait for work.
    pub idle: u32,
    /// How many there may be.
    pub max: u32,
}

impl PoolState {
    /// The state of that pool.
    #[must_use]
    pub fn of<DB: sqlx::Database>(name: &'static str, pool: &sqlx::Pool<DB>) -> Self {
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        Self {
            name,
            // The two are not of one moment.
            in_use: pool.size().saturating_sub(idle),
            idle,
            max: pool.options().get_max_connections(),
        }
    }

    /// The same, when so many of those in use only wait for work.
    #[must_use]
    pub(super) fn with_idle(self, waiting: usize) -> Self {
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX).min(self.in_use);
        Self { in_use: self.in_use - waiting, idle: self.idle + waiting, ..self }
    }
}

/// How many keys there are of each state. Each key is of one; `ending` are some of the active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyCounts {
    /// They pass.
    pub active: u64,
    /// Switched off, and not for good.
    pub inactive: u64,
    /// Their time is over.
    pub expired: u64,
    /// They were ended.
    pub revoked: u64,
    /// Active ones whose time will soon be over.
    pub ending: u64,
}
