//! Reading second factors, whichever database they are in.

use key_policy::KeyId;

use super::{
    StoreError,
    row::{Cells, bytes, optional_time, parse, time, unsigned},
    totp::{SealedSecret, StoredFactor},
};
use crate::{keys::digest::SecretName, totp::attempts::Attempts};

/// Keys with their factors, with the columns that [`read`] expects.
macro_rules! factors {
    () => {
        "SELECT totp_keys.key_id, totp_factors.*,
                (SELECT count(*) FROM totp_recovery_codes AS code
                 WHERE code.factor_id = totp_factors.factor_id) AS recovery_codes
         FROM totp_keys JOIN totp_factors ON totp_factors.factor_id = totp_keys.factor_id "
    };
}
pub(super) use factors;

/// Reads a factor.
pub(super) fn read(row: &impl Cells) -> Result<StoredFactor, StoreError> {
    Ok(StoredFactor {
        factor_id: bytes(row, "factor_id")?,
        sealed: SealedSecret {
            sealed: row.blob("sealed")?.to_vec(),
            with: SecretName::from_stored(row.text("sealed_with")?),
        },
        enrolled_at: time(row.integer("enrolled_at_ms")?, "enrolled_at_ms")?,
        confirmed_at: optional_time(row, "confirmed_at_ms")?,
        attempts: Attempts {
            from: time(row.integer("attempts_from_ms")?, "attempts_from_ms")?,
            in_window: unsigned(row.integer("attempts")?, "attempts")?,
            in_a_row: unsigned(row.integer("failed_in_a_row")?, "failed_in_a_row")?,
        },
        recovery_codes: unsigned(row.integer("recovery_codes")?, "recovery_codes")?,
    })
}

/// Reads a key's name, and its factor.
pub(super) fn read_with_key(row: &impl Cells) -> Result<(KeyId, StoredFactor), StoreError> {
    Ok((parse(row.text("key_id")?, "key_id")?, read(row)?))
}
