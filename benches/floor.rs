//! What waking sockets costs at least on this machine: two threads send so many bytes to each of them and do nothing else, and another
//! process waits for all as the load of `benches/live parked` does. An engine cannot be faster than that.

use std::cell::Cell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::{Barrier, Mutex};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;

use super::{THREADS, cpu_s, on_this_thread};

/// Sends to `connections` sockets at once, `rounds` times.
pub(crate) fn floor(connections: usize, rounds: usize, bytes: usize) -> Value {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut waiting = Command::new(std::env::current_exe().unwrap())
        .args(["waits", &address, &connections.to_string(), &rounds.to_string(), &bytes.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let sockets: Vec<TcpStream> = (0..connections)
        .map(|_| {
            let socket = listener.accept().unwrap().0;
            socket.set_nodelay(true).unwrap();
            socket
        })
        .collect();
    let mut told = BufReader::new(waiting.stdout.take().unwrap()).lines();
    let mut tell = || told.next().expect("the other process goes on").unwrap();
    let (own_pid, body) = (std::process::id() as usize, vec![b'x'; bytes]);
    let (mut spreads_ms, mut sent_s) = (Vec::new(), 0.0);
    for _ in 0..rounds {
        assert_eq!(tell(), "waits");
        let before_s = cpu_s(own_pid);
        std::thread::scope(|scope| {
            for share in sockets.chunks(connections.div_ceil(THREADS)) {
                scope.spawn(|| share.iter().for_each(|mut socket| socket.write_all(&body).unwrap()));
            }
        });
        sent_s += cpu_s(own_pid) - before_s;
        spreads_ms.push(tell().parse::<f64>().unwrap());
    }
    assert!(waiting.wait().unwrap().success());
    let by_round: Vec<f64> = spreads_ms.iter().map(|spread| spread.round()).collect();
    spreads_ms.sort_by(f64::total_cmp);
    json!({
        "spread_ms": by_round,
        "spread_ms_median": spreads_ms[spreads_ms.len() / 2].round(),
        "send_us_each": sent_s * 1e6 / (connections * rounds) as f64,
    })
}

/// The other process: says when all wait, and how many milliseconds there were between the first that came and the last.
pub(crate) fn waits(address: &str, connections: usize, rounds: usize, bytes: usize) {
    let (together, came) = (Barrier::new(THREADS + 1), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for at in 0..THREADS {
            let (together, came) = (&together, &came);
            let count = connections / THREADS + usize::from(at < connections % THREADS);
            scope.spawn(move || on_this_thread(wait(address, count, rounds, bytes, together, came)));
        }
        for _ in 0..rounds {
            together.wait();
            println!("waits");
            together.wait();
            let came: Vec<Instant> = std::mem::take(&mut *came.lock().unwrap());
            let (first, latest) = (came.iter().min().unwrap(), came.iter().max().unwrap());
            println!("{}", (*latest - *first).as_secs_f64() * 1_000.0);
        }
    });
}

async fn wait(
    address: &str,
    count: usize,
    rounds: usize,
    bytes: usize,
    together: &Barrier,
    came: &Mutex<Vec<Instant>>,
) {
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        sockets.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    for _ in 0..rounds {
        let asleep = Rc::new(Cell::new(0));
        let mut waiting = JoinSet::new();
        for socket in sockets.drain(..) {
            let asleep = asleep.clone();
            waiting.spawn_local(async move {
                asleep.set(asleep.get() + 1);
                socket.peek(&mut [0]).await.unwrap();
                (socket, Instant::now())
            });
        }
        while asleep.get() < count {
            tokio::task::yield_now().await;
        }
        together.wait();
        let mut seen = Vec::with_capacity(count);
        while let Some(woken) = waiting.join_next().await {
            let (socket, at) = woken.unwrap();
            seen.push(at);
            sockets.push(socket);
        }
        for socket in &mut sockets {
            socket.read_exact(&mut vec![0; bytes]).await.unwrap();
        }
        came.lock().unwrap().append(&mut seen);
        together.wait();
    }
}
