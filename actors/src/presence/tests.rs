use proptest::prelude::*;

use super::*;

const LINGER: Duration = Duration::from_secs(10);
const LEASE: Duration = Duration::from_secs(15);
const BEAT: Duration = Duration::from_secs(5);
const EPOCH: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn second() -> Duration {
    Duration::from_secs(1)
}

/// Some nodes, and a bus between them that loses what it is told to lose.
struct World {
    nodes: Vec<(NodeId, Presence)>,
    now: Instant,
}

impl World {
    fn of(count: usize) -> World {
        let node = |_| {
            let id = NodeId::generate();
            (id, Presence::new(id, Settings::default()))
        };
        World { nodes: (0..count).map(node).collect(), now: Instant::now() }
    }

    fn at(&self) -> OffsetDateTime {
        EPOCH
    }

    /// Time passes and everything that is said is heard, but by those for whom `is_lost` says otherwise.
    fn pass(&mut self, by: Duration, mut is_lost: impl FnMut(usize) -> bool) -> Vec<(usize, Change)> {
        let (mut changes, end) = (Vec::new(), self.now + by);
        while self.now < end {
            self.now = (self.now + second()).min(end);
            for index in 0..self.nodes.len() {
                let more = self.nodes[index].1.tick(self.now, true);
                changes.extend(more.into_iter().map(|change| (index, change)));
            }
            changes.extend(self.carry(&mut is_lost));
        }
        changes
    }

    fn carry(&mut self, is_lost: &mut impl FnMut(usize) -> bool) -> Vec<(usize, Change)> {
        let (mut changes, at) = (Vec::new(), self.at());
        let said: Vec<_> = self.nodes.iter_mut().map(|(id, node)| (*id, node.take_said())).collect();
        for (from, said) in said {
            for said in said {
                for index in 0..self.nodes.len() {
                    if !is_lost(index) {
                        let more = self.nodes[index].1.heard(from, said.clone(), self.now, at);
                        changes.extend(more.into_iter().map(|change| (index, change)));
                    }
                }
            }
        }
        changes
    }
}

#[test]
fn old_socket_closes_after_the_new_one_opened_and_the_user_stays_online() {
    let (mut world, ann) = (World::of(2), UserId::generate());
    let (old, new) = (SessionId::generate(), SessionId::generate());
    let (now, at) = (world.now, world.at());
    assert!(world.nodes[0].1.came(ann, old).is_some());
    assert_eq!(world.nodes[0].1.came(ann, new), None, "online already");
    world.nodes[0].1.went(ann, old, now, at);
    let changes = world.pass(LINGER * 3, |_| false);
    assert!(changes.iter().all(|(_, change)| change.state == State::Online), "{changes:?}");
    assert!(world.nodes.iter().all(|(_, node)| node.of(ann) == State::Online));
    let (now, at) = (world.now, world.at());
    world.nodes[0].1.went(ann, new, now, at);
    world.pass(LINGER - second(), |_| false);
    assert!(
        world.nodes.iter().all(|(_, node)| node.of(ann) == State::Online),
        "for a moment she may be back"
    );
    world.pass(second() * 2, |_| false);
    assert!(world.nodes.iter().all(|(_, node)| node.of(ann) == State::Offline(Some(EPOCH))));
}

#[test]
fn a_user_who_goes_to_another_node_was_never_away() {
    let (mut world, ann) = (World::of(3), UserId::generate());
    let (old, new) = (SessionId::generate(), SessionId::generate());
    world.nodes[0].1.came(ann, old);
    world.pass(second(), |_| false);
    let (now, at) = (world.now, world.at());
    world.nodes[0].1.went(ann, old, now, at);
    world.pass(second() * 3, |_| false);
    world.nodes[1].1.came(ann, new);
    let changes = world.pass(LINGER * 3, |_| false);
    assert_eq!(changes, []);
    assert_eq!(world.nodes[2].1.of(ann), State::Online);
}

#[test]
fn an_end_of_before_takes_nothing_newer_away() {
    let (mut world, ann) = (World::of(2), UserId::generate());
    let (old, new) = (SessionId::generate(), SessionId::generate());
    let from = world.nodes[0].0;
    let (now, at) = (world.now, world.at());
    let there = &mut world.nodes[1].1;
    there.heard(from, Said::Came { users: vec![(ann, new)] }, now, at);
    assert_eq!(there.heard(from, Said::Went { users: vec![(ann, old, 0)] }, now, at), []);
    assert_eq!(there.of(ann), State::Online);
}

#[test]
fn a_dead_node_takes_its_users_with_it_and_one_of_the_living_writes_it_down() {
    let mut world = World::of(3);
    let users: Vec<_> = (0..5).map(|_| UserId::generate()).collect();
    for user in &users {
        world.nodes[0].1.came(*user, SessionId::generate());
    }
    world.nodes[1].1.came(users[4], SessionId::generate());
    world.pass(second(), |_| false);
    world.nodes.remove(0);
    let changes = world.pass(LEASE - second(), |_| false);
    assert_eq!(changes, [], "it may still speak");
    let changes = world.pass(BEAT, |_| false);
    assert_eq!(changes.len(), 8, "four users, for two nodes: {changes:?}");
    assert_eq!(changes.iter().filter(|(_, change)| change.is_to_be_written).count(), 4);
    assert_eq!(world.nodes[1].1.of(users[4]), State::Online, "she is elsewhere too");
}

#[test]
fn without_the_bus_everybody_is_believed_to_be_where_they_were() {
    let (mut world, ann) = (World::of(2), UserId::generate());
    world.nodes[0].1.came(ann, SessionId::generate());
    world.pass(second(), |_| false);
    for _ in 0..60 {
        world.now += second();
        assert_eq!(world.nodes[1].1.tick(world.now, false), []);
    }
    let now = world.now;
    world.nodes[1].1.missed();
    assert_eq!(world.nodes[1].1.tick(now + second(), true), [], "it has a lease from now on");
    // She left meanwhile, and that was told to nobody.
    world.nodes[0].1 = Presence::new(world.nodes[0].0, Settings::default());
    let changes = world.pass(second() * 3, |_| false);
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert!(matches!(world.nodes[1].1.of(ann), State::Offline(_)));
}

#[test]
fn a_node_that_leaves_gives_its_users_time_to_come_back() {
    let (mut world, ann, bo) = (World::of(2), UserId::generate(), UserId::generate());
    for user in [ann, bo] {
        world.nodes[0].1.came(user, SessionId::generate());
    }
    world.pass(second(), |_| false);
    world.nodes[0].1.leave();
    world.carry(&mut |_| false);
    world.nodes.remove(0);
    world.nodes[0].1.came(ann, SessionId::generate());
    let changes = world.pass(LINGER + second(), |_| false);
    assert_eq!(changes.iter().map(|(_, change)| change.user).collect::<Vec<_>>(), [bo]);
    assert_eq!(world.nodes[0].1.of(ann), State::Online);
}

#[test]
fn thousands_are_told_in_parts() {
    let mut world = World::of(2);
    for _ in 0..2_500 {
        world.nodes[0].1.came(UserId::generate(), SessionId::generate());
    }
    world.nodes[0].1.take_said();
    world.pass(BEAT * 2, |_| false);
    assert_eq!(world.nodes[1].1.counts(), (0, 2_500));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Sockets open and close anywhere, messages are lost at any time; once the bus carries again, every node knows who has a socket.
    #[test]
    fn whatever_was_lost_every_node_comes_to_the_truth(
        steps in prop::collection::vec((0_u8..4, 0_usize..3, 0_usize..4, any::<bool>()), 0..80)
    ) {
        let mut world = World::of(3);
        let users: Vec<_> = (0..4).map(|_| UserId::generate()).collect();
        let mut open: Vec<(usize, UserId, SessionId)> = Vec::new();
        for (what, node, user, is_lost) in steps {
            let (now, at) = (world.now, world.at());
            match what {
                0 | 1 => {
                    let session = SessionId::generate();
                    world.nodes[node].1.came(users[user], session);
                    open.push((node, users[user], session));
                }
                2 => if let Some(index) = open.iter().position(|(there, whose, _)| (*there, *whose) == (node, users[user])) {
                    let (_, whose, session) = open.swap_remove(index);
                    world.nodes[node].1.went(whose, session, now, at);
                },
                _ => _ = world.pass(second() * 4, |index| is_lost && index == node),
            }
        }
        world.pass(LINGER + LEASE + BEAT * 3, |_| false);
        for (_, node) in &world.nodes {
            for user in &users {
                let is_open = open.iter().any(|(_, whose, _)| whose == user);
                prop_assert_eq!(node.of(*user) == State::Online, is_open);
            }
        }
    }
}
