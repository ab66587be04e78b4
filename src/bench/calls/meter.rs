//! What a node says of itself: its metrics at a moment, and what was added to them until another.

use std::collections::HashMap;

use crate::bench::BenchError;
use crate::bench::installation::Node;

/// The metrics of a node at a moment, by name and labels as they are written.
#[derive(Debug, Default, PartialEq)]
pub struct Meter {
    values: HashMap<String, f64>,
}

/// A histogram, of what was added between two moments: upper bounds, and how many are at or below each.
#[derive(Debug, Default, PartialEq)]
pub struct Spread {
    buckets: Vec<(f64, f64)>,
}

impl Meter {
    /// Asks a node.
    pub async fn of(node: &Node) -> Result<Meter, BenchError> {
        crate::app::use_ring();
        let url = format!("http://{}/metrics", node.metrics);
        let answer = reqwest::get(url).await.map_err(BenchError::because)?;
        Ok(Meter::read(&answer.text().await.map_err(BenchError::because)?))
    }

    /// Reads Prometheus' text format.
    fn read(text: &str) -> Meter {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let values = lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        });
        Meter { values: values.collect() }
    }

    /// A value; 0 where there is none.
    pub fn get(&self, series: &str) -> f64 {
        self.values.get(series).copied().unwrap_or_default()
    }

    /// What all series of a name have together, whatever their labels.
    pub fn sum(&self, name: &str) -> f64 {
        let all = self.values.iter();
        all.filter(|(series, _)| series.split('{').next() == Some(name)).map(|(_, value)| value).sum()
    }

    /// The values of all series of a name that has labels, in the order of these.
    pub fn labelled(&self, name: &str) -> Vec<f64> {
        let all = self.values.iter();
        let mut found: Vec<_> = all.filter(|(series, _)| series.split('{').next() == Some(name)).collect();
        found.sort_by(|one, other| one.0.cmp(other.0));
        found.into_iter().map(|(_, value)| *value).collect()
    }

    /// What was added to a histogram without labels since `before`.
    pub fn spread(&self, before: &Meter, name: &str) -> Spread {
        let begins = format!("{name}_bucket{{le=\"");
        let bucket = |(series, value): (&String, &f64)| {
            let bound = series.strip_prefix(&begins)?.strip_suffix("\"}")?;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
            Some((bound, value - before.get(series)))
        };
        let mut buckets: Vec<(f64, f64)> = self.values.iter().filter_map(bucket).collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        Spread { buckets }
    }
}

impl Spread {
    /// How many there are.
    pub fn count(&self) -> f64 {
        self.buckets.last().map_or(0.0, |(_, count)| *count)
    }

    /// The upper bound that `share` of them do not exceed: as exact as the buckets are, and never less than it was. 0 where there are
    /// none, infinite where it is beyond the last bound.
    pub fn bound(&self, share: f64) -> f64 {
        let rank = share * self.count();
        let found = self.buckets.iter().find(|(_, count)| *count >= rank && *count > 0.0);
        found.map_or(0.0, |(bound, _)| *bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_spread_over_the_buckets() {
        let before = Meter::read(
            "# TYPE t histogram\nt_bucket{le=\"0.1\"} 5\nt_bucket{le=\"0.2\"} 6\nt_bucket{le=\"+Inf\"} 6\n",
        );
        let after = Meter::read(
            "t_bucket{le=\"+Inf\"} 106\nt_bucket{le=\"0.1\"} 55\nt_bucket{le=\"0.2\"} 104\n\
             t_sum 3\nof{reason=\"a\"} 2\nof{reason=\"b\"} 3\noff 1\n",
        );
        let spread = after.spread(&before, "t");
        assert_eq!(spread.buckets, [(0.1, 50.0), (0.2, 98.0), (f64::INFINITY, 100.0)]);
        assert_eq!((spread.count(), spread.bound(0.5), spread.bound(0.6)), (100.0, 0.1, 0.2));
        assert_eq!((spread.bound(1.0), after.spread(&before, "u").bound(0.5)), (f64::INFINITY, 0.0));
        assert_eq!(after.labelled("of"), [2.0, 3.0]);
        assert_eq!((after.sum("of"), after.get("off"), after.get("none")), (5.0, 1.0, 0.0));
    }
}
