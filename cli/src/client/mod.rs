//! Gateways as a client sees them: their URLs, the logins that this user has stored, and requests to them.

mod access_key;
mod answer;
mod http;
mod logins;
mod problem;
mod target;
mod url;

pub use access_key::AccessKey;
pub use answer::{Answer, read_stream, read_whole};
pub use http::{Client, Model};
pub use logins::{Login, Logins, Store};
pub use target::{Target, TargetArgs};
pub use url::GatewayUrl;
