//! Pages of lists: `?limit=&cursor=`. A cursor is the key of the last item of the page before, so that a list that changes
//! meanwhile shows no item twice and leaves none out that was there all the time.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use data_encoding::BASE64URL_NOPAD;
use model::api::{Page, SCHEMA_VERSION};
use model::{Code, Refusal};
use serde::Deserialize;

use super::problem::{Refused, bad_query};

/// Items of a page at most, and when nobody says how many: some hundred kilobytes.
pub const PAGE_ITEMS_MAX: usize = 1_000;

/// Which page is wanted.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Paging {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A query that may ask for a page.
pub type PageQuery = Result<Query<Paging>, QueryRejection>;

/// Which page a query asks for, or that it cannot be read.
pub fn read_page(query: PageQuery) -> Result<Paging, Refused> {
    let Query(paging) = query.map_err(|rejection| bad_query(&rejection))?;
    match paging.limit {
        Some(limit) if !(1..=PAGE_ITEMS_MAX).contains(&limit) => {
            Err(Refusal::new(Code::BadRequest, format!("limit is 1 to {PAGE_ITEMS_MAX}")).into())
        }
        Some(_) | None => Ok(paging),
    }
}

impl Paging {
    /// The page of these rows, by their keys; only rows of the page are made into forms.
    ///
    /// # Errors
    /// `bad-request`: the cursor is none; and whatever a form fails with.
    pub fn of<T, K, F>(
        &self,
        rows: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> K,
        form: impl FnMut(T) -> Result<F, Refusal>,
    ) -> Result<Page<F>, Refusal>
    where
        K: Ord + Display + FromStr,
    {
        let no_cursor = || Refusal::new(Code::BadRequest, "cursor is what `next` of the page before said");
        let after = self.cursor.as_ref().map(|cursor| decode::<K>(cursor).ok_or_else(no_cursor));
        let after = after.transpose()?;
        let rows = rows.into_iter().map(|row| (key(&row), row));
        let mut rows: Vec<(K, T)> =
            rows.filter(|(key, _)| after.as_ref().is_none_or(|after| key > after)).collect();
        rows.sort_by(|(a, _), (b, _)| a.cmp(b));
        let limit = self.limit.unwrap_or(PAGE_ITEMS_MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next =
            rows.last().filter(|_| more).map(|(key, _)| BASE64URL_NOPAD.encode(key.to_string().as_bytes()));
        let items = rows.into_iter().map(|(_, row)| row).map(form).collect::<Result<_, _>>()?;
        Ok(Page { schema_version: SCHEMA_VERSION, items, next })
    }
}

/// A cursor is one word that needs no escape in a URL, and nobody's to take apart.
fn decode<K: FromStr>(cursor: &str) -> Option<K> {
    let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).ok()?;
    std::str::from_utf8(&bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(limit: usize, cursor: Option<&str>, rows: &[u32]) -> Result<Page<u32>, Refusal> {
        let cursor = cursor.map(|key| BASE64URL_NOPAD.encode(key.as_bytes()));
        let paging = Paging { limit: Some(limit), cursor };
        paging.of(rows.iter().copied(), |row| *row, Ok)
    }

    #[test]
    fn pages_meet_though_the_list_changes_between_them() {
        let first = page(2, None, &[3, 1, 2, 4]).expect("a page");
        let next = BASE64URL_NOPAD.encode(b"2");
        assert_eq!((first.items, first.next), (vec![1, 2], Some(next)));
        // 2 is gone and 0 is new: the next page begins after 2 all the same.
        let second = page(2, Some("2"), &[0, 1, 3, 4]).expect("a page");
        assert_eq!((second.items, second.next), (vec![3, 4], None));
        assert_eq!(page(2, Some("9"), &[1]).expect("a page").items, [] as [u32; 0]);
        assert_eq!(page(2, Some("x"), &[1]).expect_err("no cursor").code, Code::BadRequest);
        let odd = Paging { limit: None, cursor: Some("!".into()) };
        assert!(odd.of([1_u32], |row| *row, Ok).is_err());
    }

    #[test]
    fn limits_are_kept() {
        let limit = |text: &str| {
            let uri = format!("/?limit={text}").parse().expect("a URI");
            read_page(Query::try_from_uri(&uri)).is_ok()
        };
        assert!(limit("1") && limit("1000"));
        assert!(!limit("0") && !limit("1001") && !limit("-1") && !limit("x"));
    }
}
