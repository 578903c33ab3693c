//! The columns of the table: configurations of Envoy to measure.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::Configuration;

/// One configuration of Envoy.
#[derive(Debug, Clone)]
pub struct Column {
    /// The title in the table.
    pub name: String,
    /// The filter that it runs.
    pub filter: Filter,
    /// The filter chains that contain the filter.
    pub positions: FilterPositions,
    /// The columns that it is compared with.
    pub against: &'static [&'static str],
}

/// The filter chains that contain the filter, and the upstreams behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterPositions {
    /// The listener's chain only, with one provider.
    Listener,
    /// Also the upstream chains of two providers, with the route that retries a request at the other provider. Both providers use
    /// the same server.
    Both,
    /// As `Both`, but the first provider's server fails every second request.
    BothFailing,
}

/// The filter before the router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// No filter.
    None,
    /// A wasm module without any function.
    Empty(PathBuf),
    /// The same module, holding requests until their bodies are complete.
    Holding(PathBuf),
    /// A build of the gateway's filter, and its configuration.
    Gateway(PathBuf, Configuration),
    /// Envoy's AI Protocol Manager, in C++: validates requests and extracts the usage of responses. It enforces no limits.
    Native,
    /// `peer.lua`: routes by the model and extracts the usage of responses. It enforces no limits.
    Lua,
}

/// The available columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// No filter
    None,
    /// An empty filter: the overhead of the wasm platform
    Empty,
    /// An empty filter that holds requests until their bodies are complete: Envoy's overhead for any filter that routes by the body
    Holding,
    /// One provider with a daily budget, open to all callers
    Filter,
    /// One of 100 access keys: budgets of provider, external share and key, tokens and requests per minute
    Developer,
    /// One of three agents, identified by a header, with a daily budget
    Agent,
    /// As `filter`, with a guard against prompt injection
    Guards,
    /// As `developer`, with that guard: keys, agents, four budgets, two rates and a guard
    All,
    /// Envoy's AI Protocol Manager, in C++: parses and counts, enforces no limits
    Cpp,
    /// A Lua filter: extracts the model and the usage by patterns, enforces no limits
    Lua,
    /// Two empty filters in the positions of `fallback`: in the listener and before the upstream
    EmptyTwice,
    /// As `filter`, in both positions: fallback is configured but not used
    Attempt,
    /// An agent with two providers, of which the first responds
    Fallback,
    /// As `fallback`, but the first provider fails every second request
    FallbackUsed,
}

// === impl Filter ===

impl Filter {
    /// Returns its module, if any.
    pub fn module(&self) -> Option<&PathBuf> {
        match self {
            Self::None | Self::Native | Self::Lua => None,
            Self::Empty(module) | Self::Holding(module) | Self::Gateway(module, _) => Some(module),
        }
    }

    /// Returns the headers that a request needs.
    pub(super) fn credentials(&self) -> String {
        match self {
            Self::Gateway(_, configuration) => configuration.credentials(),
            _ => Configuration::Open.credentials(),
        }
    }
}

// === impl Choice ===

impl Choice {
    /// The default: the filter in the listener only, and comparable filters.
    pub const DEFAULT: [Self; 9] =
        [Self::None, Self::Empty, Self::Filter, Self::Developer, Self::Agent, Self::Guards, Self::All, Self::Cpp, Self::Lua];
    /// The default where each column takes long: the smallest and the largest configuration of the filter.
    pub const FEW: [Self; 6] = [Self::None, Self::Empty, Self::Filter, Self::All, Self::Cpp, Self::Lua];
    /// The number of configured access keys.
    pub(super) const KEYS: usize = 100;

    /// Returns the column with these builds of the empty filter and of the gateway's filter.
    pub fn column(self, empty: &Path, module: &Path) -> Column {
        let gateway = |configuration| Filter::Gateway(module.to_owned(), configuration);
        let (name, filter, against): (_, _, &[_]) = match self {
            Self::None => ("no filter", Filter::None, &[]),
            Self::Empty => ("empty", Filter::Empty(empty.to_owned()), &[]),
            Self::Holding => ("holding", Filter::Holding(empty.to_owned()), &["empty"]),
            Self::Filter => ("filter", gateway(Configuration::Open), &["other", "empty", "no filter"]),
            Self::Developer => ("developer", gateway(Configuration::Keys(Self::KEYS)), &["empty"]),
            Self::Agent => ("agent", gateway(Configuration::Agents), &["empty"]),
            Self::Guards => ("guards", gateway(Configuration::Guarded), &["filter"]),
            Self::All => ("all", gateway(Configuration::All(Self::KEYS)), &["empty", "cpp", "lua"]),
            Self::Cpp => ("cpp", Filter::Native, &["no filter"]),
            Self::Lua => ("lua", Filter::Lua, &["no filter"]),
            Self::EmptyTwice => ("empty-twice", Filter::Empty(empty.to_owned()), &["empty"]),
            Self::Attempt => ("attempt", gateway(Configuration::Open), &["empty-twice", "filter"]),
            Self::Fallback => ("fallback", gateway(Configuration::Fallback), &["empty-twice"]),
            Self::FallbackUsed => ("fallback-used", gateway(Configuration::Fallback), &["empty-twice"]),
        };
        let positions = match self {
            Self::EmptyTwice | Self::Attempt | Self::Fallback => FilterPositions::Both,
            Self::FallbackUsed => FilterPositions::BothFailing,
            _ => FilterPositions::Listener,
        };
        Column { name: name.to_owned(), filter, positions, against }
    }
}
