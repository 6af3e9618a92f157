//! The hand-over under a thousand schedules of its threads.

use super::HandOver;
use crate::sync::{Mutex, thread};
use std::sync::Arc;

const SCHEDULES: usize = 1000;

/// An image that a writer takes for the first time goes back to the device, as one does whose
/// sprite is empty. The device ends only when nothing comes back any more.
#[test]
fn each_image_is_written_once_and_all_threads_end() {
    let check = || {
        let posts = Arc::new(HandOver::new());
        let queue = Arc::new(Mutex::new((0..3).map(|n| (n, n == 1)).collect::<Vec<(u32, bool)>>()));
        let written = Arc::new(Mutex::new(vec![]));
        let device = {
            let (posts, queue) = (posts.clone(), queue.clone());
            thread::spawn(move || {
                loop {
                    // As a plan: first what is unwritten, then what waits, since an image is put
                    // back before it counts as written.
                    let unwritten = posts.unwritten();
                    assert!(unwritten <= 3, "an image counts before a writer has it");
                    let next = queue.lock().unwrap().pop();
                    match next {
                        Some(image) => posts.hand_image(image),
                        None if unwritten == 0 => break,
                        None => thread::yield_now(),
                    }
                }
                posts.close();
            })
        };
        let writers = [(); 2].map(|()| {
            let (posts, queue, written) = (posts.clone(), queue.clone(), written.clone());
            thread::spawn(move || {
                while let Some((image, is_empty)) = posts.take() {
                    match is_empty {
                        true => queue.lock().unwrap().push((image, false)),
                        false => written.lock().unwrap().push(image),
                    }
                    posts.written();
                }
            })
        });
        device.join().unwrap();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let mut written = written.lock().unwrap().clone();
        written.sort_unstable();
        assert_eq!((written, posts.unwritten()), (vec![0, 1, 2], 0));
    };
    shuttle::check_random(check, SCHEDULES);
}
