//! Circles in a graph of names. Knows not what the names are.

use std::collections::{BTreeMap, BTreeSet};

/// Who names whom.
pub type Arrows = BTreeMap<String, BTreeSet<String>>;

/// One circle for each knot of the graph, as the names in order, the first repeated at the end. An arrow to itself
/// is none.
pub fn circles(arrows: &Arrows) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = Vec::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    for start in arrows.keys() {
        if known.contains(start) {
            continue;
        }
        if let Some(circle) = way_back(arrows, start) {
            known.extend(circle.iter().cloned());
            found.push(circle);
        }
    }
    found
}

/// The shortest way from a name to itself, by breadth-first search.
fn way_back(arrows: &Arrows, start: &str) -> Option<Vec<String>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for next in arrows.get(at).into_iter().flatten().filter(|next| *next != at) {
            if next == start {
                return Some(walk(&came_from, start, at));
            }
            if !came_from.contains_key(next.as_str()) {
                came_from.insert(next, at);
                queue.push_back(next);
            }
        }
    }
    None
}

fn walk(came_from: &BTreeMap<&str, &str>, start: &str, last: &str) -> Vec<String> {
    let mut way = vec![start.to_owned(), last.to_owned()];
    let mut at = last;
    while at != start {
        at = came_from[at];
        way.push(at.to_owned());
    }
    way.dedup();
    way.reverse();
    way
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arrows: &[(&str, &str)], expect: &[&[&str]]) {
        let mut graph = Arrows::new();
        for (from, to) in arrows {
            graph.entry((*from).into()).or_default().insert((*to).into());
        }
        assert_eq!(circles(&graph), expect);
    }

    #[test]
    fn circles_are_found_once_and_shortest() {
        check(&[("a", "b"), ("b", "c")], &[]);
        check(&[("a", "a")], &[]);
        check(&[("a", "b"), ("b", "a")], &[&["a", "b", "a"]]);
        check(&[("a", "b"), ("b", "c"), ("c", "a"), ("x", "a")], &[&["a", "b", "c", "a"]]);
        check(&[("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")], &[&["a", "b", "a"], &["c", "d", "c"]]);
    }
}
