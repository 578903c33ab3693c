//! What a filter costs: Envoy's CPU time per request with no filter, with an empty one, and with this one.
//!
//! Every column of the table is an Envoy of its own, with one worker, which lives through all rounds; one at a time is under
//! load, in turns, so that whatever else the machine does falls on all of them alike. The stand-in vLLM and the load
//! generator run in this process. Time is what the kernel counts for Envoy's threads, not what passes on the clock.
//!
//! Beside the table there are measurements of their own: [`flood`], of wrong keys, [`reload`], of many keys, and [`soak`], of hours.

mod client;
mod configuration;
pub(crate) mod cpu;
mod envoy;
pub mod flood;
mod load;
mod machine;
mod memory;
pub mod reload;
mod report;
mod rounds;
pub mod soak;
mod steady;
mod table;
mod upstream;
mod workload;

pub use configuration::Configuration;
pub use report::Report;
pub use rounds::run;
pub use workload::Workload;

use std::path::PathBuf;

/// Connections that are kept busy.
pub const CONNECTIONS: usize = 16;

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Envoy's binary.
    pub envoy: PathBuf,
    /// The configurations, in the order of the table.
    pub columns: Vec<Column>,
    /// The rows of the table.
    pub workloads: Vec<Workload>,
    /// Rounds that count.
    pub rounds: usize,
    /// Requests are divided by this.
    pub haste: u64,
}

/// One configuration of Envoy.
#[derive(Debug, Clone)]
pub struct Column {
    /// As the table calls it.
    pub name: String,
    /// What it runs.
    pub filter: Filter,
    /// Where that stands.
    pub places: Places,
    /// Names of the columns that it is compared with.
    pub against: &'static [&'static str],
}

/// Where the filter stands, and what it stands in front of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Places {
    /// In the listener alone, in front of one provider.
    Listener,
    /// In the upstream chains of two providers as well, with the route by which a retry moves from one to the other. The providers
    /// share a server.
    Both,
    /// The same, but the first provider's server fails at every second request.
    BothFailing,
}

/// What stands in the filter chain before the router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Nothing.
    None,
    /// A wasm module that does nothing.
    Empty(PathBuf),
    /// The same, but it holds requests until their bodies are there.
    Holding(PathBuf),
    /// A build of the gateway's filter, and what it is told.
    Gateway(PathBuf, Configuration),
}

// === impl Filter ===

impl Filter {
    /// Its module, if it has one.
    pub fn module(&self) -> Option<&PathBuf> {
        match self {
            Self::None => None,
            Self::Empty(module) | Self::Holding(module) | Self::Gateway(module, _) => Some(module),
        }
    }

    /// The headers that a request needs.
    fn credentials(&self) -> String {
        match self {
            Self::None | Self::Empty(_) | Self::Holding(_) => Configuration::Open.credentials(),
            Self::Gateway(_, configuration) => configuration.credentials(),
        }
    }
}
