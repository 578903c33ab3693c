//! Faults: how a response differs from a normal one. Specs are comma-separated and combined: `gzip,fragment=7`.

use std::num::{NonZeroU64, NonZeroUsize};
use std::str::FromStr;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};

use super::options::duration;

/// The `--help` text about fault specs.
pub const FAULT_HELP: &str = "\
Faults (comma-separated; --fault, `POST /standin/fault`, or per request the header `x-standin-fault` or the body field `standin_fault`):
  status=N                respond with this status and an error body
  reset-before-headers    read the request, then reset the connection
  reset-after-events=N    reset the connection after N events of a stream (without streaming: before the body)
  hang                    read the request and never respond
  hang-after-events=N     stop sending after N events of a stream
  error-event-after=N     end a stream as vLLM does when its engine dies: an error event, then [DONE]
  end-after-events=N      end a stream early without an error and without [DONE]
  no-usage                report no usage, even if requested
  extra-usage=N           report N completion tokens more than were sent
  gzip                    encode the response, even if the client does not accept it
  fragment=N              write N bytes at a time
  coalesce                write as many events at once as fit
  crlf                    end the lines of a stream with CR LF
  reasoning               send the first half of the completion as reasoning
  tokens=N                natural length of a completion
  latency=D, interval=D   time to the first token, and between tokens
  header=NAME:VALUE       add a response header
  times=N                 apply the server's fault to its next N requests only
  every=N                 apply the server's fault to every Nth request, starting with the Nth";

/// Differences from a normal response; the default is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Respond with this status and an error body.
    pub status: Option<u16>,
    /// Reset the connection instead of responding.
    pub reset_before_headers: bool,
    /// Reset the connection after this number of events.
    pub reset_after_events: Option<u64>,
    /// Never respond.
    pub hang: bool,
    /// Stop sending after this number of events.
    pub hang_after_events: Option<u64>,
    /// Send an error event and `[DONE]` after this number of events.
    pub error_event_after: Option<u64>,
    /// End the stream normally after this number of events.
    pub end_after_events: Option<u64>,
    /// Omit usage.
    pub no_usage: bool,
    /// Report this number of completion tokens too many.
    pub extra_usage: u64,
    /// Encode the response with gzip.
    pub gzip: bool,
    /// Write this number of bytes at a time.
    pub fragment: Option<NonZeroUsize>,
    /// Combine as many events as possible in one write.
    pub coalesce: bool,
    /// End lines of a stream with CR LF.
    pub crlf: bool,
    /// Send the first half of the completion as reasoning.
    pub reasoning: bool,
    /// The natural length of a completion.
    pub tokens: Option<u64>,
    /// The time to the first token.
    pub latency: Option<Duration>,
    /// The time between tokens.
    pub interval: Option<Duration>,
    /// Additional response headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The number of requests for which the server's fault still applies; `None` for all.
    pub times: Option<u64>,
    /// Applies the server's fault to every Nth request only.
    pub every: Option<Every>,
}

/// Selects every Nth element of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Every {
    number: NonZeroU64,
    passed: u64,
}

// === impl Fault ===

impl FromStr for Fault {
    type Err = String;

    fn from_str(spec: &str) -> Result<Self, String> {
        let mut fault = Self::default();
        fault.add(spec)?;
        Ok(fault)
    }
}

impl Fault {
    /// Adds a spec to this fault.
    pub fn add(&mut self, spec: &str) -> Result<(), String> {
        spec.split(',').map(str::trim).filter(|word| !word.is_empty()).try_for_each(|word| self.add_word(word))
    }

    fn add_word(&mut self, word: &str) -> Result<(), String> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "status" => self.status = Some(number(word, value).and_then(|n| status(word, n))?),
            "reset-before-headers" => self.reset_before_headers = true,
            "reset-after-events" => self.reset_after_events = Some(number(word, value)?),
            "hang" => self.hang = true,
            "hang-after-events" => self.hang_after_events = Some(number(word, value)?),
            "error-event-after" => self.error_event_after = Some(number(word, value)?),
            "end-after-events" => self.end_after_events = Some(number(word, value)?),
            "no-usage" => self.no_usage = true,
            "extra-usage" => self.extra_usage = number(word, value)?,
            "gzip" => self.gzip = true,
            "fragment" => self.fragment = Some(value.parse().map_err(|_| format!("`{word}`: not a number from 1"))?),
            "coalesce" => self.coalesce = true,
            "crlf" => self.crlf = true,
            "reasoning" => self.reasoning = true,
            "tokens" => self.tokens = Some(number(word, value)?),
            "latency" => self.latency = Some(duration(value)?),
            "interval" => self.interval = Some(duration(value)?),
            "header" => self.headers.push(header(word, value)?),
            "times" => self.times = Some(number(word, value)?),
            "every" => self.every = Some(Every::nth(value.parse().map_err(|_| format!("`{word}`: not a number from 1"))?)),
            _ => return Err(format!("`{word}` is not a fault")),
        }
        Ok(())
    }

    /// Returns the fault for the next request, according to `every` and `times`.
    pub(super) fn next(&mut self) -> Self {
        if self.every.as_mut().is_some_and(|every| !every.turn()) {
            return Self::default();
        }
        match &mut self.times {
            Some(0) => return Self::default(),
            Some(left) => *left -= 1,
            None => {}
        }
        self.clone()
    }
}

// === impl Every ===

impl Every {
    fn nth(number: NonZeroU64) -> Self {
        Self { number, passed: 0 }
    }

    /// Returns whether the next element is selected.
    fn turn(&mut self) -> bool {
        self.passed = (self.passed + 1) % self.number;
        self.passed == 0
    }
}

fn number(word: &str, value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("`{word}`: `{value}` is not a whole number"))
}

fn status(word: &str, number: u64) -> Result<u16, String> {
    u16::try_from(number).ok().filter(|n| (200..600).contains(n)).ok_or_else(|| format!("`{word}`: not a final status"))
}

fn header(word: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let invalid = || format!("`{word}`: not NAME:VALUE");
    let (name, value) = value.split_once(':').ok_or_else(invalid)?;
    Ok((name.parse().map_err(|_| invalid())?, value.trim().parse().map_err(|_| invalid())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_add_up() {
        let fault: Fault = "gzip, fragment=7,status=503,header=set-cookie: a=b".parse().unwrap();
        assert!(fault.gzip && fault.fragment.unwrap().get() == 7 && fault.status == Some(503));
        assert_eq!(fault.headers, [("set-cookie".parse().unwrap(), "a=b".parse().unwrap())]);
        for spec in ["", "status=503", "hang", "latency=20ms", "times=2"] {
            assert!(spec.parse::<Fault>().is_ok(), "{spec}");
        }
        for spec in ["nonsense", "status", "status=99", "fragment=0", "every=0", "header=x", "latency=soon"] {
            assert!(spec.parse::<Fault>().is_err(), "{spec}");
        }
    }

    #[test]
    fn times_runs_out() {
        let mut fault: Fault = "hang,times=1".parse().unwrap();
        assert!(fault.next().hang);
        assert!(!fault.next().hang);
    }

    #[test]
    fn every_third() {
        let mut fault: Fault = "status=503,every=3,times=2".parse().unwrap();
        let failed: Vec<bool> = (0..10).map(|_| fault.next().status.is_some()).collect();
        assert_eq!(failed, [false, false, true, false, false, true, false, false, false, false]);
    }
}
