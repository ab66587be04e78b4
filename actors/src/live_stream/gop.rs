//! The pictures of the present group: what somebody who begins to listen in its middle needs, to see something before the next keyframe.

use nova_media::frame::{Frame, Media, Track};

/// Pictures that are kept: ten seconds of 60, the longest that encoders make unless they are told otherwise.
const FRAMES_MAX: usize = 600;
/// Bytes of them: four seconds of 16 Mbit/s, as much as may wait for a listener. They are shared with the parts' makers while those hold
/// them.
const BYTES_MAX: usize = 8 << 20;

/// See the [module documentation](self). When a group is longer than what is kept, nothing of it is: its rest alone shows nothing.
#[derive(Debug, Default)]
pub(super) struct Gop {
    frames: Vec<Frame>,
    bytes: usize,
}

impl Gop {
    /// Takes what was written.
    pub(super) fn push(&mut self, media: &Media) {
        match media {
            Media::Frame(frame) if frame.track == Track::Video => {
                if frame.keyframe {
                    self.clear();
                } else if self.frames.is_empty() {
                    return;
                }
                self.bytes += frame.payload.len();
                self.frames.push(frame.clone());
                if self.frames.len() > FRAMES_MAX || self.bytes > BYTES_MAX {
                    self.clear();
                }
            }
            // What came before is decoded otherwise, or was at another time.
            Media::Configuration { track: Track::Video, .. } | Media::Discontinuity { .. } => self.clear(),
            _ => {}
        }
    }

    /// Nothing of it is of use any more.
    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }

    /// From its keyframe to the latest picture.
    pub(super) fn frames(&self) -> &[Frame] {
        &self.frames
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use nova_media::time::Timestamp;

    use super::*;

    fn picture(ms: i64, keyframe: bool, bytes: usize) -> Media {
        let (dts, payload) = (Timestamp::from_millis(ms), Bytes::from(vec![0; bytes]));
        Media::Frame(Frame { track: Track::Video, dts, pts: dts, keyframe, payload })
    }

    fn times(gop: &Gop) -> Vec<i64> {
        gop.frames().iter().map(|frame| frame.dts.millis()).collect()
    }

    #[test]
    fn it_begins_with_the_latest_keyframe() {
        let mut gop = Gop::default();
        gop.push(&picture(0, false, 9));
        assert_eq!(times(&gop), [0; 0], "without its keyframe it shows nothing");
        for ms in [40, 80, 120] {
            gop.push(&picture(ms, ms == 40, 9));
        }
        assert_eq!(times(&gop), [40, 80, 120]);
        gop.push(&picture(160, true, 9));
        assert_eq!(times(&gop), [160]);
        gop.push(&Media::Discontinuity { jump_ms: 60_000 });
        assert_eq!(times(&gop), [0; 0]);
    }

    #[test]
    fn a_group_without_an_end_is_given_up() {
        let mut gop = Gop::default();
        for n in 0..2_000 {
            gop.push(&picture(n, n == 0, 1));
        }
        assert_eq!(times(&gop), [0; 0], "too many pictures");
        gop.push(&picture(2_000, true, BYTES_MAX));
        assert_eq!(times(&gop), [2_000]);
        gop.push(&picture(2_001, false, 1));
        assert_eq!((times(&gop), gop.bytes), (vec![], 0), "too many bytes");
        gop.push(&picture(2_002, false, 1));
        assert_eq!(times(&gop), [0; 0]);
    }
}
