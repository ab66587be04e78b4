//! Who gets how much of what a receiver's path carries: a pure function of a snapshot.
//!
//! Nobody is raised while somebody who could be shown is not; what is shared and what is on the stage is never taken away; and the
//! lowest step is the last to go.

use std::cmp::Reverse;

/// How much a slot matters. The order is the order of importance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// A screen that is shared: it is what everybody looks at.
    Screen,
    /// The largest face.
    Stage,
    /// One of many.
    Tile,
}

/// One quality of a track: a layer of pictures, or a part of its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Simulcast layer, from 0.
    pub layer: usize,
    /// The highest temporal layer that is sent.
    pub temporal: u8,
    /// What it costs, bits a second.
    pub bps: u64,
}

/// What a slot could show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// How much it matters.
    pub rank: Rank,
    /// Of two of one rank the higher matters more.
    pub priority: u8,
    /// Qualities, the cheapest first; none when nothing comes from the publisher.
    pub steps: Vec<Step>,
    /// What it shows now, by place in `steps`.
    pub now: Option<usize>,
}

/// What is known when the plan is made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// What may be spent on pictures, bits a second; `None` when nothing limits.
    pub budget_bps: Option<u64>,
    /// Slots; of two of one rank and priority the first matters more.
    pub wishes: Vec<Wish>,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// For each wish the step, by place; `None`: paused, or nothing to show.
    pub steps: Vec<Option<usize>>,
    /// What that costs.
    pub spent_bps: u64,
    /// What it would cost to show everything at its best: worth looking whether the path carries more.
    pub wanted_bps: u64,
}

/// A raise must leave this share of its cost free, of a hundred: what has just been raised is not to fall at the next breath.
const RAISE_MARGIN_PERCENT: u64 = 10;

/// Makes the plan.
pub fn allocate(snapshot: &Snapshot) -> Plan {
    let wishes = &snapshot.wishes;
    let budget = snapshot.budget_bps.unwrap_or(u64::MAX);
    let cost = |at: usize, step: usize| {
        wishes.get(at).and_then(|wish| wish.steps.get(step)).map_or(0, |step| step.bps)
    };
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    let importance = |at: usize| wishes.get(at).map(|wish| (wish.rank, Reverse(wish.priority)));
    order.sort_by_key(|at| importance(*at));
    let mut steps: Vec<Option<usize>> = vec![None; wishes.len()];
    let (mut spent, mut wanted) = (0_u64, 0_u64);
    for at in &order {
        let Some(wish) = wishes.get(*at).filter(|wish| !wish.steps.is_empty()) else { continue };
        wanted = wanted.saturating_add(wish.steps.last().map_or(0, |step| step.bps));
        let lowest = cost(*at, 0);
        if wish.rank < Rank::Tile || spent.saturating_add(lowest) <= budget {
            spent = spent.saturating_add(lowest);
            if let Some(step) = steps.get_mut(*at) {
                *step = Some(0);
            }
        }
    }
    // The important are raised as far as they want, then the others, those of one priority in turns, a step at a time.
    let mut raise = |at: usize, steps: &mut Vec<Option<usize>>| -> bool {
        let (Some(wish), Some(Some(step))) = (wishes.get(at), steps.get_mut(at)) else { return false };
        let next = *step + 1;
        if next >= wish.steps.len() {
            return false;
        }
        let more = cost(at, next).saturating_sub(cost(at, *step));
        // What is shown already needs no margin to stay.
        let is_new = wish.now.is_none_or(|now| next > now);
        let margin = if is_new { cost(at, next) / 100 * RAISE_MARGIN_PERCENT } else { 0 };
        if spent.saturating_add(more).saturating_add(margin) > budget {
            return false;
        }
        spent = spent.saturating_add(more);
        *step = next;
        true
    };
    let (important, others): (Vec<usize>, Vec<usize>) =
        order.iter().partition(|at| wishes.get(**at).is_some_and(|wish| wish.rank < Rank::Tile));
    for at in important {
        while raise(at, &mut steps) {}
    }
    for equals in others.chunk_by(|a, b| importance(*a) == importance(*b)) {
        loop {
            let mut any = false;
            for at in equals {
                any |= raise(*at, &mut steps);
            }
            if !any {
                break;
            }
        }
    }
    Plan { steps, spent_bps: spent, wanted_bps: wanted }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wish() -> impl Strategy<Value = Wish> {
        let rank = prop_oneof![1 => Just(Rank::Screen), 1 => Just(Rank::Stage), 5 => Just(Rank::Tile)];
        let steps = proptest::collection::vec(1u64..2_000_000, 0..7);
        (rank, 0u8..3, steps, proptest::option::of(0usize..6)).prop_map(|(rank, priority, mut costs, now)| {
            costs.sort_unstable();
            let step = |(at, bps)| Step { layer: at / 2, temporal: (at % 2) as u8, bps };
            Wish { rank, priority, steps: costs.into_iter().enumerate().map(step).collect(), now }
        })
    }

    fn snapshot() -> impl Strategy<Value = Snapshot> {
        let budget = proptest::option::weighted(0.9, 0u64..20_000_000);
        (budget, proptest::collection::vec(wish(), 0..26))
            .prop_map(|(budget_bps, wishes)| Snapshot { budget_bps, wishes })
    }

    fn lowest(wish: &Wish) -> u64 {
        wish.steps.first().map_or(0, |step| step.bps)
    }

    proptest! {
        #[test]
        fn a_plan_keeps_to_its_budget_and_to_what_there_is(snapshot in snapshot()) {
            let plan = allocate(&snapshot);
            prop_assert_eq!(plan.steps.len(), snapshot.wishes.len());
            let mut spent = 0;
            for (wish, step) in snapshot.wishes.iter().zip(&plan.steps) {
                if let Some(step) = step {
                    prop_assert!(*step < wish.steps.len());
                    spent += wish.steps[*step].bps;
                }
            }
            prop_assert_eq!(plan.spent_bps, spent);
            prop_assert!(plan.wanted_bps >= spent);
            let budget = snapshot.budget_bps.unwrap_or(u64::MAX);
            // Only what may never be taken away goes beyond it, and then nothing else does.
            let never: u64 = snapshot.wishes.iter().filter(|wish| wish.rank < Rank::Tile).map(lowest).sum();
            prop_assert!(spent <= budget.max(never));
            if snapshot.budget_bps.is_none() {
                prop_assert_eq!(plan.spent_bps, plan.wanted_bps);
            }
        }

        #[test]
        fn what_is_shared_and_the_stage_never_starve(snapshot in snapshot()) {
            let plan = allocate(&snapshot);
            for (wish, step) in snapshot.wishes.iter().zip(&plan.steps) {
                if wish.rank < Rank::Tile && !wish.steps.is_empty() {
                    prop_assert!(step.is_some());
                }
            }
        }

        /// Somebody is paused only when not even the lowest steps of all fit; so the lowest is the last to go.
        #[test]
        fn nobody_is_paused_for_the_quality_of_another(snapshot in snapshot()) {
            let plan = allocate(&snapshot);
            let all: u64 = snapshot.wishes.iter().map(lowest).sum();
            let paused = snapshot.wishes.iter().zip(&plan.steps).any(|(wish, step)| !wish.steps.is_empty() && step.is_none());
            prop_assert!(!paused || all > snapshot.budget_bps.unwrap_or(u64::MAX));
        }

        /// Made again from its own result, the plan stays: nothing flutters while the budget does not change.
        #[test]
        fn a_plan_is_stable(snapshot in snapshot()) {
            let first = allocate(&snapshot);
            let mut again = snapshot;
            for (wish, step) in again.wishes.iter_mut().zip(&first.steps) { wish.now = *step; }
            prop_assert_eq!(allocate(&again).steps, first.steps);
        }

        #[test]
        fn more_is_never_worse_for_who_matters_most(snapshot in snapshot(), more in 0u64..5_000_000) {
            let place = |plan: &Plan| {
                let mut ranked: Vec<usize> = (0..snapshot.wishes.len()).collect();
                ranked.sort_by_key(|at| (snapshot.wishes[*at].rank, Reverse(snapshot.wishes[*at].priority)));
                ranked.first().and_then(|at| plan.steps[*at])
            };
            let (Some(budget), true) = (snapshot.budget_bps, snapshot.wishes.iter().all(|wish| wish.rank < Rank::Tile)) else {
                return Ok(());
            };
            let less = place(&allocate(&snapshot));
            let richer = Snapshot { budget_bps: Some(budget + more), ..snapshot.clone() };
            prop_assert!(place(&allocate(&richer)) >= less);
        }
    }

    #[test]
    fn tiles_are_raised_in_turns_and_a_raise_leaves_room() {
        let steps = |all: &[u64]| -> Vec<Step> {
            all.iter().enumerate().map(|(layer, bps)| Step { layer, temporal: 0, bps: *bps }).collect()
        };
        let tile = |now| Wish { rank: Rank::Tile, priority: 0, steps: steps(&[100, 400, 1_500]), now };
        let plan = |budget, wishes: Vec<Wish>| allocate(&Snapshot { budget_bps: Some(budget), wishes }).steps;
        assert_eq!(plan(300, vec![tile(None), tile(None)]), [Some(0), Some(0)]);
        assert_eq!(plan(850, vec![tile(None), tile(None)]), [Some(1), Some(1)]);
        assert_eq!(plan(800, vec![tile(None), tile(None)]), [Some(1), Some(0)], "a raise leaves room");
        assert_eq!(plan(800, vec![tile(Some(1)), tile(Some(1))]), [Some(1), Some(1)], "and stays");
        assert_eq!(plan(150, vec![tile(Some(1)), tile(Some(1))]), [Some(0), None]);
        let first = |now| Wish { priority: 1, ..tile(now) };
        assert_eq!(plan(800, vec![tile(None), first(None)]), [Some(0), Some(1)], "first what is preferred");
        assert_eq!(plan(150, vec![tile(None), first(None)]), [None, Some(0)]);
        assert_eq!(plan(1_900, vec![tile(None), first(None)]), [Some(0), Some(2)]);
        let screen = Wish { rank: Rank::Screen, priority: 0, steps: steps(&[500, 2_000]), now: None };
        assert_eq!(plan(100, vec![tile(None), screen.clone()]), [None, Some(0)]);
        assert_eq!(plan(2_400, vec![tile(None), screen]), [Some(0), Some(1)]);
    }
}
