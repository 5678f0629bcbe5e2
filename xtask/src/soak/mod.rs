//! `cargo xtask soak`: what must hold for hours and over crashes, looked at from outside.
//!
//! | file | what it is |
//! |---|---|
//! | `ground` | the Keygate under load, with its servers |
//! | `scene` | what all who take part have between them |
//! | `load`, `admin` | clients of the gate; administrators who keep a book |
//! | `kills` | crashes: nothing that was acknowledged is gone |
//! | `endurance` | hours: nothing grows that must not |

mod admin;
mod command;
pub mod endurance;
mod ground;
pub mod kills;
mod load;
mod scene;

pub use command::Soak;
pub(crate) use command::run;
pub use ground::{Given, Store};
