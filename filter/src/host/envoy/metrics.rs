//! Envoy's metrics, which it numbers.

use std::cell::RefCell;
use std::collections::HashMap;

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

use super::hostcalls::Envoy;
use crate::metrics::{Kind, Meter};

thread_local! {
    static SERIES: RefCell<HashMap<(Kind, String), u32>> = RefCell::default();
}

impl Meter for Envoy {
    fn define(&self, kind: Kind, name: &str) -> u32 {
        SERIES.with_borrow_mut(|series| {
            *series.entry((kind, name.to_owned())).or_insert_with(|| {
                let kind = match kind {
                    Kind::Counter => MetricType::Counter,
                    Kind::Gauge => MetricType::Gauge,
                };
                hostcalls::define_metric(kind, name).unwrap_or_default()
            })
        })
    }

    fn add(&self, series: u32, by: u64) {
        // There is nowhere else to report a metric that cannot be written.
        let _ = hostcalls::increment_metric(series, i64::try_from(by).unwrap_or(i64::MAX));
    }

    fn set(&self, series: u32, value: u64) {
        let _ = hostcalls::record_metric(series, value);
    }
}
