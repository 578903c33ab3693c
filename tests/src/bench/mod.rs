//! What a filter costs: Envoy's CPU time per request with no filter, with an empty one, and with this one.
//!
//! Every column of the table is an Envoy of its own, with one worker, which lives through all rounds; one at a time is under
//! load, in turns, so that whatever else the machine does falls on all of them alike. The stand-in vLLM and the load
//! generator run in this process. Time is what the kernel counts for Envoy's threads, not what passes on the clock.
//!
//! Beside the table there are measurements of their own: [`refusals`], [`latency`], [`footprint`] (memory), [`contention`], [`flood`] (wrong
//! keys), [`reload`] (many keys) and [`soak`] (hours).

mod client;
mod column;
mod configuration;
pub mod contention;
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
