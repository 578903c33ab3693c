//! One page of a long list: `?after=NAME&limit=N`.

use crate::http::refusal::{Case, Refusal};

/// Items of a page where the request names no limit, and at most.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// Which items of a list, sorted by name, a request wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    after: Option<String>,
    limit: usize,
}

// === impl Page ===

impl Page {
    /// Reads a query. Other parameters are ignored.
    pub fn parse(query: &str) -> Result<Self, Refusal> {
        let mut page = Self { after: None, limit: DEFAULT_LIMIT };
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                // Names have no character that a URL has to encode.
                "after" => page.after = Some(value.to_owned()),
                "limit" => match value.parse() {
                    Ok(limit @ 1..=MAX_LIMIT) => page.limit = limit,
                    _ => return Err(invalid_limit()),
                },
                _ => {}
            }
        }
        Ok(page)
    }

    /// Returns the items of the page, and the name to continue `after` where there are more. `name` returns the name of an item.
    pub fn select<'a, T>(&self, items: impl Iterator<Item = T>, name: impl Fn(&T) -> &'a str) -> (Vec<T>, Option<String>) {
        let is_after = |item: &T| self.after.as_deref().is_none_or(|after| name(item) > after);
        let mut items: Vec<T> = items.filter(is_after).collect();
        items.sort_by(|one, other| name(one).cmp(name(other)));
        let has_more = items.len() > self.limit;
        items.truncate(self.limit);
        let next = items.last().filter(|_| has_more).map(|last| name(last).to_owned());
        (items, next)
    }
}

fn invalid_limit() -> Refusal {
    Refusal::new(Case::InvalidBody, format!("`limit` must be a whole number from 1 to {MAX_LIMIT}.")).about(Some("limit"))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn select(query: &str) -> (Vec<&'static str>, Option<String>) {
        Page::parse(query).unwrap().select(["c", "a", "e", "b", "d"].into_iter(), |name| name)
    }

    #[test]
    fn pages_follow_each_other_in_the_order_of_names() {
        assert_eq!(select(""), (vec!["a", "b", "c", "d", "e"], None));
        assert_eq!(select("limit=2"), (vec!["a", "b"], Some("b".to_owned())));
        assert_eq!(select("limit=2&after=b"), (vec!["c", "d"], Some("d".to_owned())));
        assert_eq!(select("after=d&limit=2"), (vec!["e"], None));
        assert_eq!(select("after=bb&limit=1"), (vec!["c"], Some("c".to_owned())));
        assert_eq!(select("after=z"), (vec![], None));
        assert_eq!(select("limit=5&x=y&z"), (vec!["a", "b", "c", "d", "e"], None), "exactly all");
    }

    #[test]
    fn a_limit_is_a_number_within_bounds() {
        for query in ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "limit=18446744073709551616"] {
            assert_eq!(Page::parse(query).unwrap_err().case, Case::InvalidBody, "{query}");
        }
    }
}
