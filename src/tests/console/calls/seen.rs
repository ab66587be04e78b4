//! What one person in a call sees and hears of another, in either browser.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::PATIENCE;
use crate::browser::Browser;
use crate::firefox::Firefox;

/// What one person sees and hears of another.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::console) struct Seen {
    pictures: u64,
    pub(super) width: u64,
    /// The highest sample of a moment of sound.
    loudness: f64,
}

/// A browser with a call in it.
pub(in crate::console) trait InCall {
    /// What is seen and heard of the other now.
    async fn seen(&self) -> Value;
    /// What goes over its connections, for the message of a test that fails.
    async fn told(&self) -> Value;
}

impl InCall for Browser {
    async fn seen(&self) -> Value {
        self.run(
            "const face = document.querySelector('.tile:not(.mine) video');
            window.ears ??= new Map();
            // A page that connects anew plays other sound than before.
            for (const { srcObject } of document.querySelectorAll('audio')) {
                if (!srcObject || window.ears.has(srcObject)) continue;
                window.context ??= new AudioContext();
                const ear = window.context.createAnalyser();
                window.context.createMediaStreamSource(srcObject).connect(ear);
                window.ears.set(srcObject, ear);
            }
            let loudness = 0;
            for (const ear of window.ears.values()) {
                const samples = new Float32Array(ear.fftSize);
                ear.getFloatTimeDomainData(samples);
                for (const sample of samples) loudness = Math.max(loudness, Math.abs(sample));
            }
            return { pictures: face?.getVideoPlaybackQuality().totalVideoFrames ?? 0, width: face?.videoWidth ?? 0, loudness };",
        )
        .await
    }

    async fn told(&self) -> Value {
        self.connections().await
    }
}

/// Firefox analyses no sound where there is no sound card, and counts the pictures of a call under another name.
impl InCall for Firefox {
    async fn seen(&self) -> Value {
        self.run(
            "const face = document.querySelector('.tile:not(.mine) video');
            return window.connections.at(-1).getStats().then((stats) => {
                const levels = [...stats.values()].filter((one) => one.type === 'inbound-rtp').map((one) => one.audioLevel ?? 0);
                return { pictures: face?.mozPaintedFrames ?? 0, width: face?.videoWidth ?? 0, loudness: Math.max(0, ...levels) };
            });",
        )
        .await
    }

    async fn told(&self) -> Value {
        self.run("return window.connections.map((connection) => connection.connectionState);").await
    }
}

impl Seen {
    async fn of(browser: &impl InCall) -> Seen {
        let seen = browser.seen().await;
        Seen {
            pictures: seen["pictures"].as_u64().unwrap_or_default(),
            width: seen["width"].as_u64().unwrap_or_default(),
            loudness: seen["loudness"].as_f64().unwrap_or_default(),
        }
    }
}

/// Waits until the other's face moves and their voice is heard.
pub(in crate::console) async fn sees_and_hears(who: &str, browser: &impl InCall) -> Seen {
    let (first, mut loudest) = (Seen::of(browser).await, 0.0_f64);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = Seen::of(browser).await;
        loudest = loudest.max(seen.loudness);
        let seen = Seen { loudness: loudest, ..seen };
        if seen.pictures > first.pictures + 30 && loudest > 0.01 {
            return seen;
        }
        // What is missing says where to look.
        if Instant::now() >= deadline {
            let told = browser.told().await;
            panic!("{who} does not see and hear the other: {first:?} became {seen:?}, over {told:#}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
