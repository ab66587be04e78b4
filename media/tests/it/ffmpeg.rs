//! FFmpeg publishes for real, and what comes out is what ffprobe finds in the file it was made from.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nova_media::codec::Configuration;
use nova_media::frame::{Media, Track};
use nova_media::rtmp::chunk::Assembler;
use nova_media::rtmp::{EndReason, Ingest, Output, Report, kind};
use rtmp_runtime::server::{ServerConfig, ServerEvent, ServerSession};
use tempfile::TempDir;

use crate::encoder::{frames, media, messages};

/// How long any of these may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of one connection.
pub(crate) struct Visit {
    pub(crate) outputs: Vec<Output>,
    /// Every byte the client sent.
    pub(crate) heard: Vec<u8>,
    pub(crate) report: Report,
}

/// Serves one publisher until it leaves.
pub(crate) fn serve(mut socket: TcpStream, verdict: Result<(), &str>) -> Visit {
    let began = Instant::now();
    let mut ingest = Ingest::new(began, 3);
    let (mut outputs, mut heard) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 64 << 10];
    while !ingest.has_ended() {
        assert!(began.elapsed() < PATIENCE, "the publisher hangs");
        let deadline =
            ingest.next_deadline().map_or(PATIENCE, |at| at.saturating_duration_since(Instant::now()));
        socket.set_read_timeout(Some(deadline.max(Duration::from_millis(1)))).unwrap();
        let given = match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                heard.extend_from_slice(&buffer[..count]);
                ingest.handle_input(Instant::now(), &buffer[..count])
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                ingest.handle_timeout(Instant::now())
            }
            Err(_) => break,
        };
        let mut answers = given;
        if answers.iter().any(|output| matches!(output, Output::PublishRequested(_))) {
            answers.extend(match verdict {
                Ok(()) => ingest.accept_publish(Instant::now()),
                Err(words) => ingest.refuse_publish(words),
            });
        }
        for output in &answers {
            if let Output::Reply(bytes) = output
                && socket.write_all(bytes).is_err()
            {
                break;
            }
        }
        outputs.extend(answers);
    }
    Visit { outputs, heard, report: ingest.report(Instant::now()) }
}

fn ffmpeg(arguments: &[&str]) -> Command {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) {
    let output = ffmpeg(arguments).output().expect("ffmpeg is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Has FFmpeg publish with these arguments before the address, and gives its last words.
fn publish(arguments: &[&str], verdict: Result<(), &'static str>) -> (Visit, bool, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("rtmp://{}/live/sk_test", listener.local_addr().unwrap());
    let child = ffmpeg(arguments).args(["-f", "flv", &address]).stderr(Stdio::piped()).spawn().unwrap();
    let door = std::thread::spawn(move || serve(listener.accept().unwrap().0, verdict));
    let output = child.wait_with_output().unwrap();
    let visit = door.join().unwrap();
    (visit, output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Three seconds of H.264 and AAC in a file.
fn source(folder: &TempDir, name: &str, size: &str, more: &[&str]) -> PathBuf {
    let path = folder.path().join(name);
    let picture = format!("testsrc2=size={size}:rate=30");
    let mut arguments = vec!["-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", "sine=r=44100", "-t", "3"];
    arguments.extend(["-c:v", "libx264", "-preset", "veryfast", "-g", "30", "-pix_fmt", "yuv420p"]);
    arguments.extend(more);
    arguments.extend(["-c:a", "aac", "-f", "flv", path.to_str().unwrap()]);
    run(&arguments);
    path
}

/// A packet as ffprobe tells it, in ticks of its stream: for FLV those are milliseconds.
pub(crate) struct Packet {
    pub(crate) video: bool,
    pub(crate) pts: i64,
    pub(crate) dts: i64,
    pub(crate) size: usize,
    pub(crate) keyframe: bool,
}

pub(crate) fn probe(path: &Path) -> Vec<Packet> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "packet=codec_type,pts,dts,size,flags", "-of", "csv=p=0"])
        .arg(path)
        .output()
        .expect("ffprobe is installed");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let fields: Vec<_> = line.split(',').collect();
            Packet {
                video: fields[0] == "video",
                pts: fields[1].parse().unwrap(),
                dts: fields[2].parse().unwrap(),
                size: fields[3].parse().unwrap(),
                keyframe: fields[4].starts_with('K'),
            }
        })
        .collect()
}

fn assert_same(visit: &Visit, path: &Path) {
    let packets = probe(path);
    let origin = packets.iter().map(|packet| packet.dts).min().unwrap();
    for track in [Track::Video, Track::Audio] {
        let wanted: Vec<_> =
            packets.iter().filter(|packet| packet.video == (track == Track::Video)).collect();
        let got = frames(&visit.outputs, track);
        assert_eq!(got.len(), wanted.len(), "{track:?}");
        assert!(got.len() > 80, "{track:?}");
        for (n, (got, wanted)) in got.iter().zip(wanted).enumerate() {
            assert_eq!(got.payload.len(), wanted.size, "{track:?} {n}");
            let dts_ms = got.dts.millis() - 10_000 - (wanted.dts - origin);
            let pts_ms = got.pts.millis() - 10_000 - (wanted.pts - origin);
            match track {
                Track::Video => {
                    assert_eq!((dts_ms, pts_ms), (0, 0), "picture {n}");
                    assert_eq!(got.keyframe, wanted.keyframe, "picture {n}");
                }
                Track::Audio => {
                    assert!(dts_ms.abs() <= 1 && got.dts == got.pts, "sound {n}: {dts_ms}");
                    assert_eq!(got.dts.ticks() - got_first(visit), n as i64 * 1_024, "counted in samples");
                }
            }
        }
    }
}

fn got_first(visit: &Visit) -> i64 {
    frames(&visit.outputs, Track::Audio)[0].dts.ticks()
}

fn configurations(visit: &Visit) -> Vec<&Configuration> {
    media(&visit.outputs)
        .into_iter()
        .filter_map(|media| match media {
            Media::Configuration { configuration, .. } => Some(&**configuration),
            _ => None,
        })
        .collect()
}

/// What comes of three seconds of H.264 with B-frames and AAC.
pub(crate) fn published() -> (Vec<Output>, TempDir) {
    let folder = TempDir::new().unwrap();
    let file = source(&folder, "source.flv", "320x180", &["-bf", "2"]);
    let (visit, well, words) = publish(&["-i", file.to_str().unwrap(), "-c", "copy"], Ok(()));
    assert!(well, "{words}");
    (visit.outputs, folder)
}

#[test]
fn every_packet_of_a_file_with_b_frames_arrives_with_its_times() {
    let folder = TempDir::new().unwrap();
    let file = source(&folder, "source.flv", "320x180", &["-bf", "2"]);
    let (visit, well, words) = publish(&["-i", file.to_str().unwrap(), "-c", "copy"], Ok(()));
    assert!(well, "{words}");
    assert_same(&visit, &file);
    assert!(matches!(visit.outputs.last(), Some(Output::Ended(EndReason::Unpublished))));
    let codecs: Vec<_> = configurations(&visit).iter().map(|one| one.codecs()).collect();
    assert_eq!(codecs, ["avc1.64000d", "mp4a.40.2"]);
    let picture = configurations(&visit)[0].picture().unwrap();
    assert_eq!((picture.width, picture.height, picture.frames_per_s), (320, 180, Some(30.0)));
    assert!(visit.report.health.b_frames);
    assert_eq!(visit.report.health.gop_frames, 30);
    assert_eq!(visit.report.dropped, Default::default());
    assert_eq!(visit.report.sanitised, Default::default());
    let request = visit.outputs.iter().find_map(|output| match output {
        Output::PublishRequested(request) => Some(request),
        _ => None,
    });
    assert_eq!(request.map(|request| request.key.as_str()), Some("sk_test"));
    assert!(visit.outputs.iter().any(|output| matches!(output, Output::Metadata(_))));
}

#[test]
fn a_second_implementation_hears_the_same_in_the_same_bytes() {
    let folder = TempDir::new().unwrap();
    let file = source(&folder, "source.flv", "320x180", &["-bf", "2"]);
    let (visit, well, words) = publish(&["-i", file.to_str().unwrap(), "-c", "copy"], Ok(()));
    assert!(well, "{words}");
    let mut other = ServerSession::new(ServerConfig::default());
    let mut tags = Vec::new();
    // FLV: a file header of 13 bytes before the first tag, then type, length, time, stream and body.
    for piece in visit.heard.chunks(4_096) {
        for event in other.handle_data(piece).unwrap().1 {
            if let ServerEvent::Media { flv } = event {
                let tag = if flv.starts_with(b"FLV") { &flv[13..] } else { &flv[..] };
                let time = u32::from_be_bytes([tag[7], tag[4], tag[5], tag[6]]);
                tags.push((tag[0], time, tag[11..tag.len() - 4].to_vec()));
            }
        }
    }
    tags.retain(|(tag_kind, ..)| [kind::AUDIO, kind::VIDEO].contains(tag_kind));
    let ours: Vec<_> = messages(&mut Assembler::new(), &visit.heard[1 + 2 * 1_536..])
        .into_iter()
        .filter(|message| [kind::AUDIO, kind::VIDEO].contains(&message.kind))
        .map(|message| (message.kind, message.timestamp_ms, message.payload.to_vec()))
        .collect();
    assert!(ours.len() > 200, "{}", ours.len());
    assert!(ours == tags, "{} here, {} there", ours.len(), tags.len());
}

#[test]
fn sound_alone_and_pictures_alone_are_streams() {
    let folder = TempDir::new().unwrap();
    let file = source(&folder, "source.flv", "160x90", &["-bf", "0"]);
    let file = file.to_str().unwrap();
    for (drop, track, other) in [("-vn", Track::Audio, Track::Video), ("-an", Track::Video, Track::Audio)] {
        let (visit, well, words) = publish(&["-i", file, drop, "-c", "copy"], Ok(()));
        assert!(well, "{words}");
        assert!(frames(&visit.outputs, track).len() > 80, "{track:?}");
        assert_eq!(frames(&visit.outputs, other).len(), 0);
    }
}

#[test]
fn a_refused_key_is_readable_at_the_encoder() {
    let sine = ["-f", "lavfi", "-i", "sine=r=44100", "-t", "2", "-c:a", "aac"];
    let (visit, well, words) = publish(&sine, Err("This stream key is not known."));
    assert!(!well);
    assert!(words.contains("This stream key is not known."), "{words}");
    assert!(matches!(visit.outputs.last(), Some(Output::Ended(EndReason::Refused))));
}

#[test]
fn messages_of_constant_size_keep_their_times() {
    // FFmpeg leaves everything out of the header but its first byte: one server reads 0, 128, 128, 128.
    let sine = ["-f", "lavfi", "-i", "sine=r=8000", "-t", "4", "-ac", "1", "-c:a", "pcm_mulaw"];
    let (visit, well, words) = publish(&sine, Ok(()));
    assert!(well, "{words}");
    let sent = messages(&mut Assembler::new(), &visit.heard[1 + 2 * 1_536..]);
    let times: Vec<_> = sent
        .iter()
        .filter(|message| message.kind == kind::AUDIO)
        .map(|message| message.timestamp_ms)
        .collect();
    assert_eq!(times, (0..times.len() as u32).map(|n| n * 128).collect::<Vec<_>>());
    assert!(times.len() > 25, "{times:?}");
    let unsupported: Vec<_> = media(&visit.outputs)
        .into_iter()
        .map(|media| match media {
            Media::Unsupported { coding, .. } => coding.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(unsupported, ["G.711 µ-law"]);
}

#[test]
fn a_change_of_size_in_the_middle_is_a_new_configuration() {
    let folder = TempDir::new().unwrap();
    source(&folder, "small.flv", "320x180", &["-bf", "0"]);
    source(&folder, "large.flv", "640x360", &["-bf", "0"]);
    let list = folder.path().join("list.txt");
    std::fs::write(&list, "file small.flv\nfile large.flv\n").unwrap();
    let arguments = ["-f", "concat", "-i", list.to_str().unwrap(), "-c", "copy"];
    let (visit, well, words) = publish(&arguments, Ok(()));
    assert!(well, "{words}");
    let widths: Vec<_> =
        configurations(&visit).iter().filter_map(|one| one.picture()).map(|picture| picture.width).collect();
    assert_eq!(widths, [320, 640]);
    let dts: Vec<_> = frames(&visit.outputs, Track::Video).iter().map(|frame| frame.dts.millis()).collect();
    assert_eq!(dts.len(), 180);
    assert!(dts.windows(2).all(|pair| (1..=67).contains(&(pair[1] - pair[0]))), "{dts:?}");
}

#[test]
fn a_stream_that_starts_just_before_extended_timestamps_plays_through() {
    let folder = TempDir::new().unwrap();
    let file = source(&folder, "source.flv", "320x180", &["-bf", "2"]);
    let arguments = ["-copyts", "-itsoffset", "16776.5", "-i", file.to_str().unwrap(), "-c", "copy"];
    let (visit, well, words) = publish(&arguments, Ok(()));
    assert!(well, "{words}");
    let sent = messages(&mut Assembler::new(), &visit.heard[1 + 2 * 1_536..]);
    assert!(sent.iter().any(|message| message.timestamp_ms > 0xff_ffff), "the offset reached the wire");
    assert_same(&visit, &file);
}
