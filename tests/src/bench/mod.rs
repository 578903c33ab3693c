//! What a filter costs: Envoy's CPU time per request with no filter, with an empty one, and with this one.
//!
//! Every column of the table is an Envoy of its own, with one worker, which lives through all rounds; one at a time is under
//! load, in turns, so that whatever else the machine does falls on all of them alike. The stand-in vLLM and the load
//! generator run in this process. Time is what the kernel counts for Envoy's threads, not what passes on the clock.

mod client;
pub(crate) mod cpu;
mod envoy;
mod load;
mod machine;
mod report;
mod rounds;
mod workload;

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
}

/// What stands in the filter chain before the router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Nothing.
    None,
    /// A wasm module that does nothing.
    Empty(PathBuf),
    /// A build of the gateway's filter.
    Gateway(PathBuf),
}

// === impl Filter ===

impl Filter {
    /// Its module, if it has one.
    pub fn module(&self) -> Option<&PathBuf> {
        match self {
            Self::None => None,
            Self::Empty(module) | Self::Gateway(module) => Some(module),
        }
    }
}
