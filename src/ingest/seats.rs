//! How many publishers there may be, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;
use tokio::sync::watch;

use crate::rest::client;

/// Counts connections.
#[derive(Debug)]
pub(super) struct Seats {
    all_max: usize,
    address_max: u32,
    by_address: Mutex<HashMap<u128, u32>>,
    taken: watch::Sender<usize>,
    gauge: IntGauge,
}

/// A place that is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    address: u128,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// For anybody.
    All,
    /// For this address.
    Address,
}

impl Full {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Full::All => "connections",
            Full::Address => "address",
        }
    }
}

impl Seats {
    pub(super) fn new(all_max: usize, address_max: u32, gauge: IntGauge) -> Seats {
        Seats { all_max, address_max, by_address: Mutex::default(), taken: watch::Sender::new(0), gauge }
    }

    pub(super) fn take(this: &Arc<Seats>, address: IpAddr) -> Result<Seat, Full> {
        let address = client::prefix(address);
        let mut by_address = this.by_address();
        if *this.taken.borrow() >= this.all_max {
            return Err(Full::All);
        }
        let there = by_address.entry(address).or_insert(0);
        if *there >= this.address_max {
            return Err(Full::Address);
        }
        *there += 1;
        this.taken.send_modify(|taken| *taken += 1);
        this.gauge.inc();
        Ok(Seat { seats: Arc::clone(this), address })
    }

    pub(super) fn taken(&self) -> usize {
        *self.taken.borrow()
    }

    /// Waits until nobody is there.
    pub(super) async fn emptied(&self) {
        // The sender lives as long as this.
        let _ = self.taken.subscribe().wait_for(|taken| *taken == 0).await;
    }

    fn by_address(&self) -> MutexGuard<'_, HashMap<u128, u32>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut by_address = self.seats.by_address();
        if let Some(there) = by_address.get_mut(&self.address) {
            *there -= 1;
            if *there == 0 {
                by_address.remove(&self.address);
            }
        }
        self.seats.taken.send_modify(|taken| *taken -= 1);
        self.seats.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn seats_are_counted_in_all_and_by_address_and_given_back() {
        let gauge = IntGauge::new("seats", "of this test").expect("a gauge");
        let seats = Arc::new(Seats::new(3, 2, gauge.clone()));
        let take = |address: &str| Seats::take(&seats, address.parse().expect("an address"));
        let one = take("192.0.2.1").expect("a seat");
        let _two = take("192.0.2.1").expect("a seat");
        assert_eq!(take("192.0.2.1").map(drop), Err(Full::Address));
        let three = take("192.0.2.2").expect("a seat");
        assert_eq!(take("192.0.2.3").map(drop), Err(Full::All));
        assert_eq!((seats.taken(), gauge.get()), (3, 3));
        drop(one);
        drop(take("192.0.2.1").expect("the seat is free again"));
        drop((three, _two));
        assert_eq!((seats.taken(), gauge.get()), (0, 0));
        assert!(seats.by_address().is_empty(), "nobody is remembered");
        seats.emptied().await;
    }
}
