//! What a database that was made from a copy has to do.

use async_trait::async_trait;

use super::StoreError;
use crate::audit::AuditEntry;

/// Databases that were made from a copy.
#[async_trait]
pub trait BackupStore: Send + Sync {
    /// Gives the change feed a new epoch, with the audit entry: positions of the feed that the copy
    /// was taken from mean nothing here, and filters drop what they remember.
    async fn begin_anew(&self, audit: &AuditEntry) -> Result<(), StoreError>;
}
