//! What was in the log lately: how far a head was followed is measured against it. No clock, no Redis.

use std::collections::{BTreeMap, HashMap, VecDeque};

use nova_actors::id::{PostId, UserId};

use super::{Mark, Part, What};

/// Events of one part that are remembered: a head that is further behind is made anew.
pub(super) const EVENTS_MAX: usize = 8_000;
/// Parts a head may name; the log has nine.
const PARTS_MAX: usize = 64;
/// Bytes of a part in a head.
const MARK_BYTES: usize = 20;

/// How far the log was followed: in each part the last place, and what tells the event there from others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Marks(BTreeMap<Part, (i64, u64)>);

impl Marks {
    /// The place in a part; 0 where nothing was ever said.
    pub(super) fn place(&self, part: Part) -> i64 {
        self.0.get(&part).map_or(0, |(place, _)| *place)
    }

    /// As a head holds them: topic, part, place and print of each, big-endian.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * MARK_BYTES);
        for ((topic, part), (place, print)) in &self.0 {
            bytes.extend(topic.to_be_bytes());
            bytes.extend(part.to_be_bytes());
            bytes.extend(place.to_be_bytes());
            bytes.extend(print.to_be_bytes());
        }
        bytes
    }

    /// What a head holds; `None` of what cannot be read.
    pub(super) fn read(bytes: &[u8]) -> Option<Marks> {
        let (marks, rest) = bytes.as_chunks::<MARK_BYTES>();
        if !rest.is_empty() || marks.len() > PARTS_MAX {
            return None;
        }
        let number = |mark: &[u8; MARK_BYTES], from: usize, to: usize| {
            mark.get(from..to)?.iter().try_fold(0_u64, |all, byte| Some(all << 8 | u64::from(*byte)))
        };
        let mut all = BTreeMap::new();
        for mark in marks {
            let topic = i16::try_from(number(mark, 0, 2)?).ok()?;
            let part = i16::try_from(number(mark, 2, 4)?).ok()?;
            let place = i64::try_from(number(mark, 4, 12)?).ok()?;
            all.insert((topic, part), (place, number(mark, 12, 20)?));
        }
        Some(Marks(all))
    }

    /// How many events others are ahead, in the part where that is most.
    pub(super) fn behind(&self, others: &Marks) -> i64 {
        others.0.iter().map(|(part, (place, _))| place - self.place(*part)).max().unwrap_or(0)
    }
}

/// A number that tells the event at a place from those of another log; 0 is not known.
fn print(event: uuid::Uuid) -> u64 {
    event.as_u64_pair().1
}

/// The latest events of the log, by part, and what they mean for heads.
#[derive(Debug, Default)]
pub(super) struct Window {
    parts: BTreeMap<Part, Heard>,
    posts: HashMap<UserId, Vec<Posted>>,
    /// The last time what somebody follows has changed.
    forgets: HashMap<UserId, (Part, i64)>,
}

/// What was heard of one part.
#[derive(Debug)]
struct Heard {
    /// Everything behind it was heard.
    start: i64,
    /// The print of the event at `start` and of each behind it: there is always one.
    prints: VecDeque<u64>,
    /// What means something, with its place.
    said: VecDeque<(i64, Said)>,
}

#[derive(Debug, Clone, Copy)]
enum Said {
    Post(UserId),
    Forget(UserId),
}

#[derive(Debug, Clone, Copy)]
struct Posted {
    part: Part,
    place: i64,
    post: PostId,
    is_private: bool,
}

impl Heard {
    fn from(start: i64) -> Heard {
        Heard { start, prints: VecDeque::from([0]), said: VecDeque::new() }
    }

    fn end(&self) -> i64 {
        self.start + self.prints.len() as i64 - 1
    }

    fn print_at(&self, place: i64) -> u64 {
        let nth = usize::try_from(place - self.start).unwrap_or(usize::MAX);
        self.prints.get(nth).copied().unwrap_or(0)
    }
}

impl Window {
    /// What this part says is heard from behind this place on.
    pub(super) fn starts(&mut self, part: Part, place: i64) {
        let before = self.parts.insert(part, Heard::from(place));
        for (at, said) in before.into_iter().flat_map(|heard| heard.said) {
            self.unsay(part, at, said);
        }
    }

    /// An event is there; `false` when it was heard before.
    pub(super) fn hear(&mut self, mark: Mark, what: Option<What>) -> bool {
        let end = self.parts.entry(mark.part).or_insert_with(|| Heard::from(0)).end();
        if mark.place <= end {
            return false;
        }
        // The log has lost what is between: whoever was not followed up to here may lack it.
        if mark.place > end + 1 {
            self.starts(mark.part, mark.place - 1);
        }
        let said = what.map(|what| match what {
            What::Posted { author, post, is_private } => {
                let posted = Posted { part: mark.part, place: mark.place, post, is_private };
                self.posts.entry(author).or_default().push(posted);
                Said::Post(author)
            }
            What::Forget(reader) => {
                self.forgets.insert(reader, (mark.part, mark.place));
                Said::Forget(reader)
            }
        });
        let mut over = Vec::new();
        if let Some(heard) = self.parts.get_mut(&mark.part) {
            heard.prints.push_back(print(mark.event));
            heard.said.extend(said.map(|said| (mark.place, said)));
            while heard.prints.len() > EVENTS_MAX + 1 {
                heard.prints.pop_front();
                heard.start += 1;
            }
            while let Some(first) = heard.said.front().copied().filter(|(place, _)| *place <= heard.start) {
                heard.said.pop_front();
                over.push(first);
            }
        }
        for (place, said) in over {
            self.unsay(mark.part, place, said);
        }
        true
    }

    fn unsay(&mut self, part: Part, place: i64, said: Said) {
        match said {
            Said::Post(author) => {
                if let Some(posts) = self.posts.get_mut(&author) {
                    posts.retain(|posted| (posted.part, posted.place) != (part, place));
                    if posts.is_empty() {
                        self.posts.remove(&author);
                    }
                }
            }
            Said::Forget(reader) => {
                if self.forgets.get(&reader) == Some(&(part, place)) {
                    self.forgets.remove(&reader);
                }
            }
        }
    }

    /// How far the log was heard.
    pub(super) fn marks(&self) -> Marks {
        let marks = self.parts.iter().map(|(part, heard)| {
            let end = heard.end();
            (*part, (end, heard.print_at(end)))
        });
        Marks(marks.collect())
    }

    /// Whether all that a head followed up to here lacks is known here: it is of this log, not too far behind and not ahead, and what
    /// its reader follows has not changed since.
    pub(super) fn covers(&self, reader: UserId, marks: &Marks) -> bool {
        let is_covered = |(part, heard): (&Part, &Heard)| {
            let (place, print) = marks.0.get(part).copied().unwrap_or_default();
            let here = heard.print_at(place);
            // Of the oldest event it is not always known which it is; then the other parts tell.
            (heard.start..=heard.end()).contains(&place) && (print == here || print == 0 || here == 0)
        };
        let is_known =
            |(part, (place, _)): (&Part, &(i64, u64))| *place == 0 || self.parts.contains_key(part);
        let is_followed = |(part, place): &(Part, i64)| *place <= marks.place(*part);
        !self.parts.is_empty()
            && self.parts.iter().all(is_covered)
            && marks.0.iter().all(is_known)
            && self.forgets.get(&reader).is_none_or(is_followed)
    }

    /// What a head followed up to here lacks.
    pub(super) fn since(&self, reader: UserId, authors: &[UserId], marks: &Marks) -> Vec<PostId> {
        let mut posts = Vec::new();
        for author in authors {
            for posted in self.posts.get(author).into_iter().flatten() {
                if posted.place > marks.place(posted.part) && (!posted.is_private || *author == reader) {
                    posts.push(posted.post);
                }
            }
        }
        posts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const CONTENT: Part = (1, 0);
    const USER: Part = (3, 0);

    fn hear(window: &mut Window, part: Part, place: i64, what: Option<What>) -> bool {
        window.hear(Mark { part, place, event: Uuid::now_v7() }, what)
    }

    #[test]
    fn what_a_head_lacks_is_known_while_the_window_reaches_back_to_it() {
        let mut window = Window::default();
        let (ann, bo) = (UserId::generate(), UserId::generate());
        assert!(!window.covers(bo, &Marks::default()), "nothing was heard");
        window.starts(CONTENT, 0);
        window.starts(USER, 0);
        let empty = window.marks();
        assert!(window.covers(bo, &empty) && window.covers(bo, &Marks::default()));
        let post = PostId::generate();
        let what = What::Posted { author: ann, post, is_private: false };
        assert!(hear(&mut window, CONTENT, 1, Some(what)));
        assert!(!hear(&mut window, CONTENT, 1, Some(what)), "heard before");
        assert_eq!(window.since(bo, &[ann], &empty), [post]);
        let with = window.marks();
        assert_eq!(window.since(bo, &[ann], &with), []);
        for place in 2..=EVENTS_MAX as i64 {
            hear(&mut window, CONTENT, place, None);
        }
        assert!(window.covers(bo, &empty), "as far back as it reaches");
        hear(&mut window, CONTENT, EVENTS_MAX as i64 + 1, None);
        assert!(!window.covers(bo, &empty) && window.covers(bo, &with));
        assert_eq!(window.since(bo, &[ann], &empty), [], "the post is no longer remembered");
        assert!(window.posts.is_empty());
    }

    #[test]
    fn a_change_of_what_is_followed_voids_what_is_older_alone() {
        let mut window = Window::default();
        let (bo, cy) = (UserId::generate(), UserId::generate());
        window.starts(USER, 0);
        let before = window.marks();
        hear(&mut window, USER, 1, Some(What::Forget(bo)));
        let after = window.marks();
        assert!(!window.covers(bo, &before) && window.covers(bo, &after) && window.covers(cy, &before));
        hear(&mut window, USER, 2, Some(What::Forget(bo)));
        assert!(!window.covers(bo, &after));
    }

    #[test]
    fn a_head_of_another_log_or_from_ahead_is_void() {
        let (mut one, mut other) = (Window::default(), Window::default());
        let bo = UserId::generate();
        for window in [&mut one, &mut other] {
            window.starts(CONTENT, 10);
            hear(window, CONTENT, 11, None);
        }
        assert!(
            one.covers(bo, &one.marks()) && !one.covers(bo, &other.marks()),
            "another event stands there"
        );
        hear(&mut one, CONTENT, 12, None);
        let ahead = one.marks();
        let mut behind = Window::default();
        behind.starts(CONTENT, 11);
        assert!(!behind.covers(bo, &ahead));
        // A hole in the log.
        let before = one.marks();
        hear(&mut one, CONTENT, 20, None);
        assert!(!one.covers(bo, &before) && one.covers(bo, &one.marks()));
    }

    #[test]
    fn marks_are_read_as_they_were_written_and_nothing_else_is() {
        let mut window = Window::default();
        window.starts(CONTENT, 0);
        window.starts(USER, 4);
        hear(&mut window, CONTENT, 1, None);
        let marks = window.marks();
        let bytes = marks.bytes();
        assert_eq!(Marks::read(&bytes), Some(marks));
        assert_eq!(Marks::read(&bytes[1..]), None);
        assert_eq!(Marks::read(&[255; MARK_BYTES]), None, "no part, no place");
        assert_eq!(Marks::read(&[0; MARK_BYTES * (PARTS_MAX + 1)]), None);
    }
}
