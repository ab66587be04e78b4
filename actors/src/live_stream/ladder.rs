//! The renditions of a broadcast beside its source: what a transcoder gives, what viewers read.
//!
//! The publisher marks where the source was cut, the transcoder brings pictures, each from a thread of its own; both meet here under a
//! lock that is held for as long as it takes to make a part. The source never waits for a rung: its parts are out before it marks them.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use nova_media::{
    codec::Configuration,
    frame::Frame,
    hls::{Cut, Edge, Rendition, Report, Settings, Window, multivariant::Variant, rendition::Mark},
    time::Timestamp,
};
use tokio::{sync::watch, time::Instant};

use super::{
    broadcast::{PLAYLIST, View},
    rates::Rates,
    state::Session,
};

/// A rendition that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it is called in addresses: letters and digits.
    pub name: String,
    /// Width of its pictures in pixels.
    pub width: u32,
    /// Height of its pictures in pixels.
    pub height: u32,
}

/// How the transcoding of a broadcast goes, for its owner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Transcoding {
    /// Nobody has asked for it, or nothing could be made of this source.
    #[default]
    Off,
    /// The transcoder runs.
    Running,
    /// It has died or stalled, and is about to be started again.
    Restarting,
    /// This node cannot make any of it beside what it makes already.
    Refused,
}

/// How the transcoding of a broadcast goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// In a word.
    pub transcoding: Transcoding,
    /// Renditions that are wanted and that this node has no CPU for.
    pub refused: Vec<String>,
    /// How often the transcoder was started again.
    pub restarts: u32,
    /// Why it is not running, or was last started again, or makes less than was asked for.
    pub reason: Option<String>,
}

/// How one rendition goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RungStatus {
    /// Its name.
    pub name: String,
    /// Width and height of its pictures in pixels.
    pub size: (u32, u32),
    /// Whether its latest part could be made.
    pub is_flowing: bool,
    /// Its rate over the window, in bits a second.
    pub bitrate_bps: u64,
    /// Parts that could not be made.
    pub gaps: u64,
}

/// What was made by what was brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Made {
    /// Parts.
    pub parts: u32,
    /// Their bytes.
    pub bytes: u64,
}

/// The renditions of one broadcast; see the [module documentation](self).
#[derive(Debug)]
pub struct Ladder(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    settings: Settings,
    session: Session,
    /// Discontinuities before the segment that is open.
    discontinuities: u64,
    /// What was marked of the segment that is open: a rung that comes now begins with it.
    open: Vec<Mark>,
    rungs: Vec<Rung>,
    /// A transcoder is at work.
    is_climbed: bool,
    /// The broadcast is over.
    is_over: bool,
    /// The source's live edge, and the multivariant playlist.
    source: Option<(Edge, Bytes)>,
    frames_per_s: Option<f64>,
    status: Status,
    /// Gaps that were counted already.
    gaps_taken: u64,
}

#[derive(Debug)]
struct Rung {
    step: Step,
    rendition: Rendition,
    shelf: Option<Window>,
    rates: Rates,
    views: watch::Sender<Option<Arc<View>>>,
    /// Since when it waits for pictures, without any part having been made.
    waiting: Option<Instant>,
}

impl Ladder {
    /// Without renditions, of a broadcast that has had so many discontinuities.
    pub(super) fn new(settings: Settings, discontinuities: u64) -> Self {
        Self(Mutex::new(State { settings, discontinuities, ..State::default() }))
    }

    // ── The publisher's side ───────────────────────────────────────────────────────────────────────────────────

    /// Another publisher has the desk: what was waited for does not come any more.
    pub(super) fn hand(&self, session: Session) {
        let mut state = self.state();
        state.session = session;
        state.is_climbed = false;
        state.each(|rung| rung.rendition.reset());
        for rung in &mut state.rungs {
            if let Some(shelf) = &mut rung.shelf {
                shelf.set_epoch(&epoch(session, &rung.step.name));
            }
        }
    }

    /// It is cut like this, as long as nothing has been.
    pub(super) fn settle(&self, settings: Settings) {
        self.state().settings = settings;
    }

    /// The source has cut this.
    pub(super) fn mark(&self, marks: &[Mark]) {
        if marks.is_empty() {
            return;
        }
        let mut state = self.state();
        for mark in marks {
            if let Mark::Begin { .. } = mark {
                let before = state.open.first();
                let flagged = matches!(before, Some(Mark::Begin { begin, .. }) if begin.discontinuity);
                state.discontinuities += u64::from(flagged);
                state.open.clear();
            }
            state.open.push(mark.clone());
        }
        state.each(|rung| rung.rendition.mark(marks));
    }

    /// What the other renditions than `but` tell of where they stand, in the source's playlist.
    pub(super) fn reports(&self) -> Vec<Report> {
        self.state().reports(None)
    }

    /// Those renditions that can be played now, with their addresses in the broadcast of this name.
    pub(super) fn variants(&self, broadcast: &str) -> Vec<Variant> {
        let state = self.state();
        let flowing = |rung: &&Rung| rung.shelf.as_ref().is_some_and(Window::is_flowing);
        state.rungs.iter().filter(flowing).map(|rung| rung.variant(broadcast, state.frames_per_s)).collect()
    }

    /// The source stands here by now.
    pub(super) fn follow(&self, edge: Edge, multivariant: &Bytes) {
        self.state().source = Some((edge, multivariant.clone()));
    }

    /// The broadcast is over. What a transcoder still has may come.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.is_over = true;
        if !state.is_climbed {
            state.close();
        }
    }

    /// The broadcast goes on elsewhere.
    pub(super) fn leave(&self) {
        for rung in &self.state().rungs {
            rung.views.send_modify(|view| {
                if let Some(latest) = view {
                    *view = Some(Arc::new(View { moved: true, ..View::clone(latest) }));
                }
            });
        }
    }

    // ── The transcoder's side ──────────────────────────────────────────────────────────────────────────────────

    /// Says that a transcoder makes these renditions of this session, from the picture that is shown at `from`. False when the session
    /// has not the desk any more: then nothing follows.
    pub fn climb(
        &self,
        session: Session,
        steps: &[Step],
        frames_per_s: Option<f64>,
        from: Timestamp,
    ) -> bool {
        let mut state = self.state();
        if state.session != session || state.is_over {
            return false;
        }
        state.is_climbed = true;
        state.frames_per_s = frames_per_s;
        for step in steps {
            match state.rungs.iter_mut().find(|rung| rung.step.name == step.name) {
                Some(rung) => rung.step.clone_from(step),
                None => {
                    let mut rendition = Rendition::new(state.discontinuities);
                    // Without pictures nothing of the open segment is made at once.
                    rendition.resume(from);
                    drop(rendition.mark(&state.open));
                    state.rungs.push(Rung {
                        step: step.clone(),
                        rendition,
                        shelf: None,
                        rates: Rates::default(),
                        views: watch::Sender::new(None),
                        waiting: None,
                    });
                }
            }
        }
        for rung in state.rungs.iter_mut().filter(|rung| steps.contains(&rung.step)) {
            rung.rendition.resume(from);
        }
        true
    }

    /// How the pictures of a rendition are decoded from here on.
    pub fn configure(&self, session: Session, name: &str, configuration: Arc<Configuration>) {
        let mut state = self.state();
        if state.session == session
            && let Some(rung) = state.rungs.iter_mut().find(|rung| rung.step.name == name)
        {
            rung.rendition.configure(configuration);
        }
    }

    /// Brings a picture, which lasts for so many ticks.
    pub fn push(&self, session: Session, name: &str, frame: Frame, duration: u32) -> Made {
        let mut state = self.state();
        if state.session != session {
            return Made::default();
        }
        let Some(at) = state.rungs.iter().position(|rung| rung.step.name == name) else {
            return Made::default();
        };
        let cuts =
            state.rungs.get_mut(at).map(|rung| rung.rendition.push(frame, duration)).unwrap_or_default();
        state.shelve(at, cuts)
    }

    /// No pictures come that are shown at `from` or later; without it, none after those that came.
    pub fn stop(&self, session: Session, from: Option<Timestamp>) {
        let mut state = self.state();
        if state.session == session {
            state.each(|rung| rung.rendition.stop(from));
        }
    }

    /// The transcoder of this session has ended: what waits for pictures does not get any.
    pub fn step_down(&self, session: Session) {
        let mut state = self.state();
        if state.session != session {
            return;
        }
        state.is_climbed = false;
        state.each(|rung| rung.rendition.stop(None));
        if state.is_over {
            state.close();
        }
    }

    /// What renditions wait for becomes a gap, though it may still come.
    pub fn give_up(&self, session: Session) {
        let mut state = self.state();
        if state.session == session {
            state.each(|rung| rung.rendition.give_up());
        }
    }

    /// Since when renditions have waited for pictures without a part having been made; none while all goes on.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.state().rungs.iter().filter_map(|rung| rung.waiting).min()
    }

    /// Parts that could not be made since this was last asked.
    pub fn take_gaps(&self) -> u64 {
        let mut state = self.state();
        let gaps: u64 = state.rungs.iter().map(|rung| rung.rendition.gaps()).sum();
        gaps - std::mem::replace(&mut state.gaps_taken, gaps)
    }

    /// Says how it goes.
    pub fn report(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.state().status);
    }

    // ── Those who look ─────────────────────────────────────────────────────────────────────────────────────────

    /// How it goes, and how each rendition goes, best first.
    pub fn status(&self) -> (Status, Vec<RungStatus>) {
        let state = self.state();
        let rungs = state.rungs.iter().map(|rung| RungStatus {
            name: rung.step.name.clone(),
            size: (rung.step.width, rung.step.height),
            is_flowing: state.is_climbed && rung.shelf.as_ref().is_some_and(Window::is_flowing),
            bitrate_bps: rung.rates.bandwidth_bps().1,
            gaps: rung.rendition.gaps(),
        });
        (state.status.clone(), rungs.collect())
    }

    /// The views of the rendition of this name; none when there is nothing to play of it.
    pub fn views(&self, name: &str) -> Option<watch::Receiver<Option<Arc<View>>>> {
        let state = self.state();
        let rung = state.rungs.iter().find(|rung| rung.step.name == name && rung.shelf.is_some())?;
        Some(rung.views.subscribe())
    }

    /// Reads the shelf of the rendition an epoch belongs to.
    pub(super) fn read<T>(&self, epoch: &str, read: impl FnOnce(&Window) -> Option<T>) -> Option<T> {
        let name = rung_of(epoch)?;
        let state = self.state();
        read(state.rungs.iter().find(|rung| rung.step.name == name)?.shelf.as_ref()?)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a panicking thread left is whole enough: a rendition without a part has a gap.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rendition an epoch belongs to; none of the source.
#[must_use]
pub fn rung_of(epoch: &str) -> Option<&str> {
    epoch.split_once('-').map(|(_, name)| name)
}

fn epoch(session: Session, name: &str) -> String {
    format!("{session}-{name}")
}

impl State {
    /// Lets every rung do something, and shows what came of it.
    fn each(&mut self, mut act: impl FnMut(&mut Rung) -> Vec<Cut>) {
        for at in 0..self.rungs.len() {
            let cuts = self.rungs.get_mut(at).map(&mut act).unwrap_or_default();
            self.shelve(at, cuts);
        }
    }

    fn shelve(&mut self, at: usize, cuts: Vec<Cut>) -> Made {
        let (session, settings) = (self.session, self.settings);
        let Some(rung) = self.rungs.get_mut(at) else { return Made::default() };
        let mut made = Made::default();
        let mut is_news = false;
        for cut in cuts {
            let shelf = rung.shelf.get_or_insert_with(|| {
                let epoch = epoch(session, &rung.step.name);
                Window::going_on(settings, &epoch, rung.rendition.discontinuities())
            });
            if let Cut::Part(part) = &cut {
                is_news = true;
                made.parts += u32::from(!part.gap);
                made.bytes += part.bytes.len() as u64;
            }
            rung.rates.count(&cut);
            shelf.apply(cut);
        }
        match rung.rendition.is_waiting() {
            false => rung.waiting = None,
            true if is_news => rung.waiting = Some(Instant::now()),
            true => rung.waiting = rung.waiting.or_else(|| Some(Instant::now())),
        }
        if is_news {
            self.show(at);
        }
        made
    }

    fn show(&self, at: usize) {
        let Some(rung) = self.rungs.get(at) else { return };
        let reports = self.reports(Some(&rung.step.name));
        let playlist = rung.shelf.as_ref().and_then(|shelf| shelf.snapshot(&reports));
        let (Some(playlist), Some((_, multivariant))) = (playlist, &self.source) else { return };
        let view = View { playlist, multivariant: multivariant.clone(), moved: false };
        rung.views.send_replace(Some(Arc::new(view)));
    }

    /// Where the renditions stand, without the one of this name. The source is told only to others.
    fn reports(&self, but: Option<&str>) -> Vec<Report> {
        let source = self.source.as_ref().filter(|_| but.is_some());
        let source = source.map(|(edge, _)| Report { uri: PLAYLIST.to_owned(), edge: *edge });
        let others = self.rungs.iter().filter(|rung| but != Some(rung.step.name.as_str()));
        let others = others.filter_map(|rung| {
            let shelf = rung.shelf.as_ref()?;
            Some(Report { uri: format!("{}.m3u8", rung.step.name), edge: shelf.edge() })
        });
        source.into_iter().chain(others).collect()
    }

    /// Nothing comes any more.
    fn close(&mut self) {
        self.each(|rung| rung.rendition.reset());
        for rung in &mut self.rungs {
            if let Some(shelf) = &mut rung.shelf {
                shelf.end();
            }
        }
        (0..self.rungs.len()).for_each(|at| self.show(at));
    }
}

impl Rung {
    fn variant(&self, broadcast: &str, frames_per_s: Option<f64>) -> Variant {
        let (bandwidth_bps, average_bandwidth_bps) = self.rates.bandwidth_bps();
        let mut uri = String::new();
        write!(uri, "{broadcast}/{}.m3u8", self.step.name).expect("a String takes all");
        Variant {
            uri,
            bandwidth_bps,
            average_bandwidth_bps,
            codecs: self.rendition.configurations().map(|configuration| configuration.codecs()).collect(),
            resolution: Some((self.step.width, self.step.height)),
            frames_per_s,
        }
    }
}
