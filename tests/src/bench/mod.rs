//! The overhead of a filter: Envoy's CPU time per request without a filter, with an empty filter, and with this filter.
//!
//! Each column of the table is an Envoy of its own with one worker, which runs during all rounds. The Envoys are loaded one at a
//! time, in turn, so that other load on the machine affects all of them alike. The stand-in vLLM and the load generator run in this
//! process. CPU time is the kernel's count for Envoy's threads, not wall-clock time.
//!
//! Other measurements: [`refusals`], [`latency`], [`footprint`] (memory), [`contention`], [`flood`] (wrong keys), [`reload`] (many
//! keys) and [`soak`] (hours).

mod client;
mod column;
mod configuration;
pub mod contention;
pub mod counts;
pub(crate) mod cpu;
mod envoy;
mod fixed_rate;
pub mod flood;
pub mod footprint;
pub mod latency;
mod load;
mod machine;
mod memory;
pub mod refusals;
pub mod reload;
mod report;
mod rounds;
pub mod soak;
mod subject;
mod table;
mod upstream;
mod workload;

pub use column::{Choice, Column, Filter, FilterPositions};
pub use configuration::Configuration;
pub use report::Report;
pub use rounds::run;
pub use workload::Workload;

use std::path::PathBuf;

/// The number of busy connections.
pub const CONNECTIONS: usize = 16;

/// The parameters of the measurement.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The Envoy binary.
    pub envoy: PathBuf,
    /// The configurations, in the order of the table.
    pub columns: Vec<Column>,
    /// The rows of the table.
    pub workloads: Vec<Workload>,
    /// The number of measured rounds.
    pub rounds: usize,
    /// Divides the number of requests, for a quick run.
    pub haste: u64,
}
