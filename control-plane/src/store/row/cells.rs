//! The cells of a row, whichever database it is of.

use sqlx::{Row, postgres::PgRow, sqlite::SqliteRow};

use super::StoreError;

/// What can be read from a row. Columns have these types and no others.
pub(in crate::store) trait Cells {
    /// Text.
    fn text(&self, column: &str) -> Result<&str, StoreError>;
    /// Text, or none.
    fn optional_text(&self, column: &str) -> Result<Option<&str>, StoreError>;
    /// Text, whatever bytes stand there in its place.
    fn any_text(&self, column: &str) -> Result<Option<String>, StoreError>;
    /// A number.
    fn integer(&self, column: &str) -> Result<i64, StoreError>;
    /// A number, or none.
    fn optional_integer(&self, column: &str) -> Result<Option<i64>, StoreError>;
    /// Yes or no.
    fn flag(&self, column: &str) -> Result<bool, StoreError>;
    /// Bytes.
    fn blob(&self, column: &str) -> Result<&[u8], StoreError>;
    /// Bytes, or none.
    fn optional_blob(&self, column: &str) -> Result<Option<&[u8]>, StoreError>;
}

macro_rules! cells {
    ($row:ty, any_text: $any:ty => $to_text:expr) => {
        impl Cells for $row {
            fn text(&self, column: &str) -> Result<&str, StoreError> {
                Ok(self.try_get(column)?)
            }

            fn optional_text(&self, column: &str) -> Result<Option<&str>, StoreError> {
                Ok(self.try_get(column)?)
            }

            fn any_text(&self, column: &str) -> Result<Option<String>, StoreError> {
                let value: Option<$any> = self.try_get(column)?;
                Ok(value.map($to_text))
            }

            fn integer(&self, column: &str) -> Result<i64, StoreError> {
                Ok(self.try_get(column)?)
            }

            fn optional_integer(&self, column: &str) -> Result<Option<i64>, StoreError> {
                Ok(self.try_get(column)?)
            }

            fn flag(&self, column: &str) -> Result<bool, StoreError> {
                Ok(self.try_get(column)?)
            }

            fn blob(&self, column: &str) -> Result<&[u8], StoreError> {
                Ok(self.try_get(column)?)
            }

            fn optional_blob(&self, column: &str) -> Result<Option<&[u8]>, StoreError> {
                Ok(self.try_get(column)?)
            }
        }
    };
}

// `SQLite` does not look at what it is given as text.
cells!(SqliteRow, any_text: Vec<u8> => |bytes| String::from_utf8_lossy(&bytes).into_owned());
cells!(PgRow, any_text: String => |text| text);
