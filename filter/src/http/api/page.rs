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

    /// Returns the indices of those names that are on the page, in its order, and the name to continue `after` where there are more.
    pub fn select(&self, names: &[&str]) -> (Vec<usize>, Option<String>) {
        let mut items: Vec<(&str, usize)> = names.iter().copied().zip(0..).collect();
        items.retain(|(name, _)| self.after.as_deref().is_none_or(|after| *name > after));
        items.sort_unstable();
        let has_more = items.len() > self.limit;
        items.truncate(self.limit);
        let next = items.last().filter(|_| has_more).map(|(last, _)| (*last).to_owned());
        (items.into_iter().map(|(_, index)| index).collect(), next)
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
        const NAMES: [&str; 5] = ["c", "a", "e", "b", "d"];
        let (indices, next) = Page::parse(query).unwrap().select(&NAMES);
        (indices.into_iter().map(|index| NAMES[index]).collect(), next)
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
