//! The judge: reads what every device saw, and what stands at the end, and finds what must not be.
//!
//! It knows nothing of nodes and faults; a [`Record`] goes in, [`Fault`]s come out. Each kind of fault is proved to be found by a history
//! that was doctored to have it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::fault::{Fault, Who};
use super::history::{Event, History, Place, Record, Told};

/// What is wrong with a record; nothing when all is well.
pub fn check(record: &Record) -> Vec<Fault> {
    let mut faults = Vec::new();
    logs_are_whole(record, &mut faults);
    numbers_mean_one_thing(record, &mut faults);
    what_was_said_stands(record, &mut faults);
    for (number, history) in record.devices.iter().enumerate() {
        views_are_in_order(Who::Device(number), history, record, &mut faults);
    }
    reading_adds_up(record, &mut faults);
    faults.sort();
    faults.dedup();
    faults
}

/// Everything anybody was told, with the logs.
fn all_told(record: &Record) -> impl Iterator<Item = &Told> {
    let seen = record.devices.iter().flat_map(|history| &history.events).flat_map(|event| match event {
        Event::Entry(told) | Event::Sent(told) => std::slice::from_ref(told),
        Event::Pulled { entries, .. } => entries,
        _ => &[],
    });
    seen.chain(record.logs.values().flatten())
}

fn logs_are_whole(record: &Record, faults: &mut Vec<Fault>) {
    for (place, log) in &record.logs {
        let mut after = 0;
        let mut seen: HashMap<&Arc<str>, u64> = HashMap::new();
        for Told { seq, key, .. } in log {
            let (place, seq) = (*place, *seq);
            if seq <= after {
                faults.push(Fault::Repeat { who: Who::Log, place, seq, after });
            } else if seq > after + 1 {
                faults.push(Fault::Hole { who: Who::Log, place, after, next: seq });
            }
            after = after.max(seq);
            if let Some(one) = seen.insert(key, seq)
                && one != seq
            {
                faults.push(Fault::Twice { place, key: key.clone(), one, other: seq });
            }
        }
    }
}

fn numbers_mean_one_thing(record: &Record, faults: &mut Vec<Fault>) {
    let mut meaning: HashMap<(Place, u64, u64), &Arc<str>> = HashMap::new();
    let mut number: HashMap<(Place, &Arc<str>), u64> = HashMap::new();
    for Told { place, epoch, seq, key } in all_told(record) {
        let one = *meaning.entry((*place, *epoch, *seq)).or_insert(key);
        if one != key {
            let (one, other) = (one.clone().min(key.clone()), one.clone().max(key.clone()));
            faults.push(Fault::SeqUsedTwice { place: *place, epoch: *epoch, seq: *seq, one, other });
        }
        let first = *number.entry((*place, key)).or_insert(*seq);
        if first != *seq {
            let (one, other) = (first.min(*seq), first.max(*seq));
            faults.push(Fault::Twice { place: *place, key: key.clone(), one, other });
        }
    }
}

fn what_was_said_stands(record: &Record, faults: &mut Vec<Fault>) {
    let logs = record.logs.values().flatten();
    let stands: HashSet<(Place, u64, u64, &Arc<str>)> =
        logs.map(|told| (told.place, told.epoch, told.seq, &told.key)).collect();
    for Told { place, epoch, seq, key } in all_told(record) {
        if !stands.contains(&(*place, *epoch, *seq, key)) {
            faults.push(Fault::Missing { place: *place, key: key.clone(), seq: *seq });
        }
    }
}

/// What one device has seen of one conversation.
#[derive(Default)]
struct View {
    seen: HashSet<u64>,
    /// Everything up to here was seen, or said to be for pulling.
    has: u64,
    /// The last on this connection.
    last: Option<u64>,
    /// Ranges that were said to be for pulling.
    gaps: Vec<(u64, u64)>,
}

impl View {
    fn sees(&mut self, seq: u64) {
        self.seen.insert(seq);
        self.goes_on();
    }

    fn goes_on(&mut self) {
        loop {
            let next = self.has + 1;
            if self.seen.contains(&next) {
                self.has = next;
            } else if let Some((_, to)) = self.gaps.iter().find(|(from, to)| *from <= next && next <= *to) {
                self.has = *to;
            } else {
                return;
            }
        }
    }
}

fn views_are_in_order(who: Who, history: &History, record: &Record, faults: &mut Vec<Fault>) {
    let mut views: BTreeMap<Place, View> = BTreeMap::new();
    for place in &history.places {
        views.insert(*place, View::default());
    }
    for event in &history.events {
        match event {
            Event::Connected => views.values_mut().for_each(|view| view.last = None),
            Event::Entry(Told { place, seq, .. }) => {
                let view = views.entry(*place).or_default();
                let (place, seq) = (*place, *seq);
                match view.last {
                    Some(after) if seq <= after => faults.push(Fault::Repeat { who, place, seq, after }),
                    Some(after) if seq > after + 1 => {
                        faults.push(Fault::Hole { who, place, after, next: seq });
                    }
                    None if seq > view.has + 1 => {
                        faults.push(Fault::Hole { who, place, after: view.has, next: seq });
                    }
                    _ => {}
                }
                view.last = Some(view.last.unwrap_or_default().max(seq));
                view.sees(seq);
            }
            Event::Gap { place, from, to } => {
                let view = views.entry(*place).or_default();
                let after = view.last.unwrap_or(view.has);
                if *from > after + 1 {
                    faults.push(Fault::Hole { who, place: *place, after, next: *from });
                }
                view.last = Some(view.last.unwrap_or_default().max(*to));
                view.gaps.push((*from, *to));
                view.goes_on();
            }
            Event::Pulled { place, after, limit, top, recovered, entries } => {
                let view = views.entry(*place).or_default();
                entries.iter().for_each(|told| view.sees(told.seq));
                if let Some(why) = is_not_whole(*after, *limit, *top, *recovered, entries) {
                    faults.push(Fault::NotRecovered { who, place: *place, after: *after, why });
                }
            }
            Event::Stale { place, last, top } => {
                faults.push(Fault::Stale { who, place: *place, last: *last, top: *top });
            }
            Event::Refused { key, code } => {
                faults.push(Fault::Refused { who, key: key.clone(), code: code.clone() });
            }
            Event::Sent(_) | Event::Read { .. } => {}
        }
    }
    // At the end, pulled or pushed, it has everything.
    for (place, view) in views {
        let log = record.logs.get(&place).map(Vec::as_slice).unwrap_or_default();
        if let Some(missing) = log.iter().find(|told| !view.seen.contains(&told.seq)) {
            let (after, next) = (missing.seq - 1, log.last().map_or(0, |told| told.seq + 1));
            faults.push(Fault::Hole { who, place, after, next });
        }
    }
}

/// Why an answer to a pull is not what it says.
fn is_not_whole(after: u64, limit: u64, top: u64, recovered: bool, entries: &[Told]) -> Option<String> {
    if !recovered {
        // There is one history here and nothing is removed from it: every place in it can be gone on from.
        return Some("it was said to be lost".to_owned());
    }
    let wanted = limit.min(top.saturating_sub(after));
    let seqs = entries.iter().map(|told| told.seq);
    match seqs.eq(after + 1..=after + wanted) {
        true => None,
        false => Some(format!("{} entries of {wanted} came, or not in order", entries.len())),
    }
}

fn reading_adds_up(record: &Record, faults: &mut Vec<Fault>) {
    for line in &record.inbox {
        let top = record.logs.get(&line.place).and_then(|log| log.last()).map_or(0, |told| told.seq);
        if line.top != top || line.unread != top.saturating_sub(line.read) {
            faults.push(Fault::Unread {
                user: line.user,
                place: line.place,
                unread: line.unread,
                read: line.read,
                top,
            });
        }
        let devices = record.devices.iter().filter(|history| history.user == line.user);
        let acknowledged = devices.flat_map(|history| &history.events).filter_map(|event| match event {
            Event::Read { place, seq } if *place == line.place => Some(*seq),
            // Who writes has seen what came before.
            Event::Sent(told) if told.place == line.place => Some(told.seq),
            _ => None,
        });
        let acknowledged = acknowledged.max().unwrap_or_default();
        if acknowledged > line.read {
            let (user, place, read) = (line.user, line.place, line.read);
            faults.push(Fault::ReadForgotten { user, place, acknowledged, read });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::InboxLine;
    use super::*;

    fn told(seq: u64) -> Told {
        Told { place: 0, epoch: 1, seq, key: format!("k{seq}").into() }
    }

    fn entries(seqs: impl IntoIterator<Item = u64>) -> Vec<Event> {
        seqs.into_iter().map(|seq| Event::Entry(told(seq))).collect()
    }

    /// Two devices of two users: one was connected all the time and sent everything; the other went and came back, was told of a gap, and
    /// pulled it. Nothing is wrong.
    fn good() -> Record {
        let mut sender = vec![Event::Connected];
        for seq in 1..=10 {
            sender.extend([Event::Entry(told(seq)), Event::Sent(told(seq))]);
        }
        let mut other = vec![Event::Connected];
        other.extend(entries(1..=4));
        other.push(Event::Connected);
        // Not acknowledged, so it comes again on a new connection.
        other.extend(entries(3..=5));
        other.push(Event::Connected);
        other.push(Event::Gap { place: 0, from: 4, to: 8 });
        other.extend(entries(9..=10));
        let pulled = (6..=8).map(told).collect();
        other.push(Event::Pulled { place: 0, after: 5, limit: 3, top: 10, recovered: true, entries: pulled });
        other.push(Event::Read { place: 0, seq: 9 });
        let line = |user, read| InboxLine { user, place: 0, top: 10, read, unread: 10 - read };
        Record {
            devices: vec![
                History { user: 0, places: vec![0], events: sender },
                History { user: 1, places: vec![0], events: other },
            ],
            logs: BTreeMap::from([(0, (1..=10).map(told).collect())]),
            inbox: vec![line(0, 10), line(1, 9)],
        }
    }

    /// What the judge says after `doctor` changed the record in which nothing is wrong.
    fn found(doctor: impl FnOnce(&mut Record)) -> Vec<Fault> {
        let mut record = good();
        doctor(&mut record);
        check(&record)
    }

    #[test]
    fn a_good_record_has_no_fault() {
        assert_eq!(check(&good()), []);
        assert_eq!(check(&Record::default()), []);
    }

    #[test]
    fn an_acknowledged_entry_that_is_missing() {
        // Its number went to another: nobody but the sender ever heard of it.
        let faults = found(|record| {
            let lost = Told { key: "lost".into(), ..told(11) };
            record.devices[0].events.push(Event::Sent(lost));
            record.inbox[0].read = 11;
        });
        assert!(faults.contains(&Fault::Missing { place: 0, key: "lost".into(), seq: 11 }), "{faults:?}");
        // One that was shown, and stands no more.
        let faults = found(|record| drop(record.logs.get_mut(&0).unwrap().pop()));
        assert!(faults.contains(&Fault::Missing { place: 0, key: "k10".into(), seq: 10 }), "{faults:?}");
    }

    #[test]
    fn an_acknowledged_entry_that_is_there_twice() {
        let twice = Fault::Twice { place: 0, key: "k5".into(), one: 5, other: 10 };
        let again = Told { key: "k5".into(), ..told(10) };
        let faults = found(|record| *record.logs.get_mut(&0).unwrap().last_mut().unwrap() = again.clone());
        assert!(faults.contains(&twice), "{faults:?}");
        let faults = found(|record| record.devices[0].events.push(Event::Sent(again.clone())));
        assert!(faults.contains(&twice), "{faults:?}");
    }

    #[test]
    fn a_hole() {
        let who = Who::Device(0);
        // On one connection.
        let faults = found(|record| drop(record.devices[0].events.remove(7)));
        assert!(faults.contains(&Fault::Hole { who, place: 0, after: 3, next: 5 }), "{faults:?}");
        // Between two connections.
        let who = Who::Device(1);
        let faults = found(|record| drop(record.devices[1].events.drain(6..8)));
        assert!(
            faults.iter().all(|fault| matches!(fault, Fault::Hole { .. })) || faults.is_empty(),
            "{faults:?}"
        );
        let faults = found(|record| {
            record.devices[1].events.splice(6..9, entries([6]));
        });
        assert!(faults.contains(&Fault::Hole { who, place: 0, after: 4, next: 6 }), "{faults:?}");
        // Before a gap.
        let faults = found(|record| record.devices[1].events[10] = Event::Gap { place: 0, from: 7, to: 8 });
        assert!(faults.contains(&Fault::Hole { who, place: 0, after: 5, next: 7 }), "{faults:?}");
        // At the end: it never came.
        let faults =
            found(|record| record.devices[1].events.retain(|event| *event != Event::Entry(told(10))));
        assert!(faults.contains(&Fault::Hole { who, place: 0, after: 9, next: 11 }), "{faults:?}");
        // In what was to be pulled, and was not.
        let faults = found(|record| {
            record.devices[1].events.retain(|event| !matches!(event, Event::Pulled { .. }));
        });
        assert!(faults.contains(&Fault::Hole { who, place: 0, after: 5, next: 11 }), "{faults:?}");
        // In the log itself.
        let faults = found(|record| drop(record.logs.get_mut(&0).unwrap().remove(4)));
        assert!(faults.contains(&Fault::Hole { who: Who::Log, place: 0, after: 4, next: 6 }), "{faults:?}");
        // Of somebody who was never told anything.
        let faults = found(|record| {
            record.devices.push(History { user: 2, places: vec![0], events: vec![Event::Connected] });
        });
        assert_eq!(faults, [Fault::Hole { who: Who::Device(2), place: 0, after: 0, next: 11 }]);
    }

    #[test]
    fn a_repeat() {
        let who = Who::Device(0);
        let faults = found(|record| record.devices[0].events.insert(8, Event::Entry(told(4))));
        assert_eq!(faults, [Fault::Repeat { who, place: 0, seq: 4, after: 4 }]);
        let faults = found(|record| record.devices[0].events.push(Event::Entry(told(2))));
        assert_eq!(faults, [Fault::Repeat { who, place: 0, seq: 2, after: 10 }]);
    }

    #[test]
    fn a_number_that_was_used_twice() {
        let faults = found(|record| {
            record.devices[1].events[1] = Event::Entry(Told { key: "other".into(), ..told(1) });
        });
        let (one, other) = ("k1".into(), "other".into());
        let used = Fault::SeqUsedTwice { place: 0, epoch: 1, seq: 1, one, other };
        assert!(faults.contains(&used), "{faults:?}");
    }

    #[test]
    fn recovered_with_a_hole() {
        let hole = |faults: &[Fault]| {
            faults.iter().any(|fault| matches!(fault, Fault::NotRecovered { who: Who::Device(1), .. }))
        };
        let pull = |record: &mut Record, change: fn(&mut Vec<Told>)| {
            for event in &mut record.devices[1].events {
                if let Event::Pulled { entries, .. } = event {
                    change(entries);
                }
            }
        };
        for change in [
            |entries| drop(entries.remove(1)),
            |entries| drop(entries.pop()),
            |entries| {
                entries.swap(0, 1);
            },
        ] as [fn(&mut Vec<Told>); 3]
        {
            let faults = found(|record| pull(record, change));
            assert!(hole(&faults), "{faults:?}");
        }
        let faults = found(|record| {
            record.devices[1].events.push(Event::Pulled {
                place: 0,
                after: 3,
                limit: 5,
                top: 10,
                recovered: false,
                entries: Vec::new(),
            });
        });
        assert!(hole(&faults), "nothing was removed here: {faults:?}");
    }

    #[test]
    fn unread_that_does_not_add_up() {
        let faults = found(|record| record.inbox[1].unread = 2);
        assert_eq!(faults, [Fault::Unread { user: 1, place: 0, unread: 2, read: 9, top: 10 }]);
        let faults = found(|record| record.inbox[1].top = 9);
        assert!(matches!(faults[..], [Fault::Unread { user: 1, .. }]), "{faults:?}");
        let faults = found(|record| (record.inbox[1].read, record.inbox[1].unread) = (4, 6));
        assert_eq!(faults, [Fault::ReadForgotten { user: 1, place: 0, acknowledged: 9, read: 4 }]);
    }

    #[test]
    fn who_is_connected_and_not_shown_the_end() {
        let stale = Event::Stale { place: 0, last: Some(8), top: 10 };
        let faults = found(|record| record.devices[1].events.push(stale));
        assert_eq!(faults, [Fault::Stale { who: Who::Device(1), place: 0, last: Some(8), top: 10 }]);
    }

    #[test]
    fn a_refusal_of_what_is_allowed() {
        let refused = Event::Refused { key: "k".into(), code: "not_a_member".to_owned() };
        let faults = found(|record| record.devices[1].events.push(refused));
        let (key, code) = ("k".into(), "not_a_member".to_owned());
        assert_eq!(faults, [Fault::Refused { who: Who::Device(1), key, code }]);
    }
}
