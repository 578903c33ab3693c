//! The streams of one worker: how an attempt finds the stream of its request, and which streams wait for something.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// The streams of one worker; `S` is what the drivers keep for each.
#[derive(Debug)]
pub struct Streams<S> {
    /// The random id of this worker's instance of the filter.
    instance: u64,
    /// Streams by their numbers, for their attempts to find.
    published: RefCell<HashMap<u32, Weak<S>>>,
    waiting: RefCell<Vec<Waiting<S>>>,
    /// Configurations of attempt filters in force.
    attempt_filters: Cell<usize>,
    /// Attempt filters may be created in this VM later: it replaces one that died, and each plugin follows at its first use.
    attempt_filters_may_follow: Cell<bool>,
    /// The uptime at the last tick. Waits are timed by it, so that no request has to read a clock for them.
    ticked: Cell<Duration>,
}

/// A stream that waits.
#[derive(Debug)]
struct Waiting<S> {
    id: u32,
    stream: Weak<S>,
    since: Duration,
    timeout: Duration,
}

/// The token by which an attempt finds its stream: this instance and the number of the stream.
pub type Token = [u8; 12];

// === impl Streams ===

impl<S> Streams<S> {
    /// Creates the registry of the instance with this random id.
    pub fn new(instance: u64) -> Self {
        Self {
            instance,
            published: RefCell::default(),
            waiting: RefCell::default(),
            attempt_filters: Cell::new(0),
            attempt_filters_may_follow: Cell::new(false),
            ticked: Cell::new(Duration::ZERO),
        }
    }

    /// Records the time of a tick.
    pub fn tick(&self, uptime: Duration) {
        self.ticked.set(uptime);
    }

    /// Returns the token of a stream.
    pub fn token(&self, id: u32) -> Token {
        let mut token = [0; 12];
        let (instance, number) = token.split_at_mut(8);
        instance.copy_from_slice(&self.instance.to_le_bytes());
        number.copy_from_slice(&id.to_le_bytes());
        token
    }

    /// Returns whether this is the token of a stream of this instance, which may have ended.
    pub fn is_ours(&self, token: &[u8]) -> bool {
        token.len() == size_of::<Token>() && token.first_chunk::<8>() == self.token(0).first_chunk()
    }

    /// Returns the stream of this token, if it belongs to this instance and has not ended.
    pub fn find(&self, token: &[u8]) -> Option<Rc<S>> {
        let (_, number) = token.split_last_chunk()?;
        let id = u32::from_le_bytes(*number);
        if token != self.token(id) {
            return None;
        }
        self.published.borrow().get(&id)?.upgrade()
    }

    /// Lets attempts find a stream.
    pub fn publish(&self, id: u32, stream: Weak<S>) {
        self.published.borrow_mut().insert(id, stream);
    }

    /// Forgets a stream that has ended.
    pub fn remove(&self, id: u32) {
        self.published.borrow_mut().remove(&id);
    }

    /// Notes that a stream waits, for `timeout` from the last tick on.
    pub fn wait(&self, id: u32, stream: Weak<S>, timeout: Duration) {
        self.waiting.borrow_mut().push(Waiting { id, stream, since: self.ticked.get(), timeout });
    }

    /// Notes that a stream does not wait any more.
    pub fn stop_waiting(&self, id: u32) {
        let mut waiting = self.waiting.borrow_mut();
        // Most requests get their body at once, so their entry is among the last.
        if let Some(index) = waiting.iter().rposition(|waiting| waiting.id == id) {
            waiting.swap_remove(index);
        }
    }

    /// Removes and returns the streams that have waited too long.
    pub fn take_overdue(&self) -> Vec<Rc<S>> {
        let now = self.ticked.get();
        let is_overdue = |waiting: &mut Waiting<S>| now.saturating_sub(waiting.since) >= waiting.timeout;
        let overdue: Vec<Waiting<S>> = self.waiting.borrow_mut().extract_if(.., is_overdue).collect();
        overdue.into_iter().filter_map(|waiting| waiting.stream.upgrade()).collect()
    }

    /// Returns whether an attempt filter may look for a stream.
    pub fn expects_attempts(&self) -> bool {
        self.attempt_filters.get() > 0 || self.attempt_filters_may_follow.get()
    }

    /// Sets whether attempt filters of this host may be created in this VM later.
    pub fn set_attempt_filters_may_follow(&self, may_follow: bool) {
        self.attempt_filters_may_follow.set(may_follow);
    }

    /// Counts a configuration of an attempt filter that has come into force.
    pub fn add_attempt_filter(&self) {
        self.attempt_filters.set(self.attempt_filters.get() + 1);
    }

    /// Counts one that has ended. Returns whether it was the last.
    pub fn remove_attempt_filter(&self) -> bool {
        self.attempt_filters.set(self.attempt_filters.get().saturating_sub(1));
        self.attempt_filters.get() == 0
    }
}
