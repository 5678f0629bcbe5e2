-- Second factors of admin keys (TOTP, RFC 6238). A key and the one that succeeds it share one, with
-- its steps, its attempts and its recovery codes.

CREATE TABLE totp_factors (
    factor_id        BYTEA  PRIMARY KEY CHECK (octet_length(factor_id) = 16),
    -- The shared secret, sealed under the secret key of that name.
    sealed           BYTEA  NOT NULL,
    sealed_with      TEXT   NOT NULL,
    enrolled_at_ms   BIGINT NOT NULL,
    -- Null: nobody has shown yet that they have it, and it is not asked for.
    confirmed_at_ms  BIGINT,
    -- The step of the last code that was accepted; only later ones are.
    last_step        BIGINT NOT NULL DEFAULT 0,
    -- Codes tried in the minute that began then, and wrong ones since the last right one.
    attempts_from_ms BIGINT NOT NULL DEFAULT 0,
    attempts         BIGINT NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    failed_in_a_row  BIGINT NOT NULL DEFAULT 0 CHECK (failed_in_a_row >= 0)
);

CREATE TABLE totp_keys (
    key_id    TEXT  COLLATE "C" PRIMARY KEY REFERENCES api_keys (key_id),
    factor_id BYTEA NOT NULL REFERENCES totp_factors (factor_id) ON DELETE CASCADE
);

CREATE INDEX totp_keys_by_factor ON totp_keys (factor_id);

-- One row for each code that is not used up.
CREATE TABLE totp_recovery_codes (
    factor_id BYTEA NOT NULL REFERENCES totp_factors (factor_id) ON DELETE CASCADE,
    -- HMAC-SHA256 of the code under the factor's own secret.
    digest    BYTEA NOT NULL CHECK (octet_length(digest) = 32),
    PRIMARY KEY (factor_id, digest)
);
