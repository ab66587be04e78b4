//! Voices that are decoded one by one become one sound: 48 kHz, stereo, 16 bits.
//!
//! Each voice waits in a short queue of its own, since decoders give in bursts what people say evenly. A voice that pauses (DTX, a loss,
//! nobody in the slot) is silence, not a wait for it; one whose clock is faster than ours loses a moment now and then.

use std::collections::VecDeque;

/// Samples a second, of each channel.
pub const RATE_HZ: u32 = 48_000;
/// Channels.
pub const CHANNELS: usize = 2;

const SAMPLES_PER_MS: usize = RATE_HZ as usize / 1_000 * CHANNELS;
/// What is gathered before a voice is heard after a pause: what the network and the decoder vary by.
const GATHERED: usize = 60 * SAMPLES_PER_MS;
/// What may wait. When full the oldest goes, down to [`GATHERED`]: who speaks is not to be heard ever later.
const WAITING_MAX: usize = 300 * SAMPLES_PER_MS;

/// One voice.
#[derive(Debug, Default)]
pub struct Voice {
    waiting: VecDeque<i16>,
    is_heard: bool,
}

impl Voice {
    /// Samples, the channels in turn.
    pub fn push(&mut self, samples: impl IntoIterator<Item = i16>) {
        self.waiting.extend(samples);
        if self.waiting.len() > WAITING_MAX {
            let too_much = (self.waiting.len() - GATHERED) / CHANNELS * CHANNELS;
            self.waiting.drain(..too_much);
        }
    }

    /// Adds what is next of it; silence where there is nothing.
    pub fn add_to(&mut self, sum: &mut [i32]) {
        self.is_heard = if self.is_heard { !self.waiting.is_empty() } else { self.waiting.len() >= GATHERED };
        if self.is_heard {
            let count = sum.len().min(self.waiting.len());
            for (sum, sample) in sum.iter_mut().zip(self.waiting.drain(..count)) {
                *sum += i32::from(sample);
            }
        }
    }
}

/// The next `samples` of each channel of all voices together, in bytes, the lower first. What is too loud is as loud as can be.
pub fn mix(voices: &mut [Voice], samples: usize) -> Vec<u8> {
    let mut sum = vec![0; samples * CHANNELS];
    for voice in voices {
        voice.add_to(&mut sum);
    }
    let clip = |sum: i32| sum.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
    sum.into_iter().flat_map(|sum| clip(sum).to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 960;

    fn peak(bytes: &[u8]) -> i16 {
        let samples = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
        samples.map(|sample| sample.saturating_abs()).max().unwrap_or(0)
    }

    fn says(voice: &mut Voice, ms: usize, level: i16) {
        voice.push(std::iter::repeat_n(level, ms * SAMPLES_PER_MS));
    }

    #[test]
    fn voices_add_up_and_what_is_too_loud_is_clipped() {
        let mut voices = [Voice::default(), Voice::default(), Voice::default()];
        says(&mut voices[0], 100, 1_000);
        says(&mut voices[1], 100, 20_000);
        assert_eq!(peak(&mix(&mut voices, CHUNK)), 21_000);
        says(&mut voices[2], 100, 20_000);
        let mixed = mix(&mut voices, CHUNK);
        assert_eq!((mixed.len(), peak(&mixed)), (CHUNK * CHANNELS * 2, i16::MAX));
    }

    #[test]
    fn a_voice_is_gathered_first_and_a_pause_is_silence() {
        let mut voices = [Voice::default()];
        says(&mut voices[0], 40, 500);
        assert_eq!(peak(&mix(&mut voices, CHUNK)), 0, "not enough yet");
        says(&mut voices[0], 20, 500);
        let heard: Vec<i16> = (0..5).map(|_| peak(&mix(&mut voices, CHUNK))).collect();
        assert_eq!(heard, [500, 500, 500, 0, 0]);
        says(&mut voices[0], 20, 500);
        assert_eq!(peak(&mix(&mut voices, CHUNK)), 0, "gathered again");
    }

    #[test]
    fn what_piles_up_is_let_go() {
        let mut voice = Voice::default();
        says(&mut voice, 10_000, 1);
        assert_eq!(voice.waiting.len(), GATHERED);
        for _ in 0..1_000 {
            says(&mut voice, 20, 1);
            assert!(voice.waiting.len() <= WAITING_MAX);
        }
    }
}
