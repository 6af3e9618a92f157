use proptest::prelude::*;

use super::*;

const AGEING: Duration = Duration::from_secs(30);

fn waiting(client: &str, priority: Priority, since: Instant) -> Waiting<()> {
    let (model, client) = ("sketch".into(), client.into());
    Waiting {
        item: (),
        model,
        client,
        priority,
        first: false,
        since,
        deadline: None,
        steps: 10,
        work: 100,
        bytes: 10,
        needs: Needs { size: ImageSize { width: 64, height: 64 }, rows: 1, weight_bytes: 0 },
    }
}

fn of(jobs: usize) -> Queue<()> {
    Queue::new(Limits { jobs, client_jobs: jobs, client_bytes: u64::MAX }, AGEING)
}

/// All numbers in the order in which they would be taken at once, each leaving when it has been.
fn order(queue: &mut Queue<()>) -> Vec<u64> {
    let mut order = vec![];
    while let Some(Rank { number, .. }) = queue.first(|_| true) {
        let taken = queue.take(number).unwrap();
        queue.leave(&taken.client);
        order.push(number);
    }
    order
}

#[test]
fn clients_take_turns_however_many_jobs_each_has() {
    let start = Instant::now();
    let mut queue = of(100);
    for _ in 0..10 {
        queue.push(waiting("many", Priority::Normal, start));
    }
    let one = queue.push(waiting("one", Priority::Normal, start));
    let taken: Vec<u64> = (0..4)
        .map(|_| {
            let number = queue.first(|_| true).unwrap().number;
            queue.take(number);
            number
        })
        .collect();
    assert_eq!(taken, [0, one, 1, 2]);
}

#[test]
fn of_one_clients_jobs_the_shortest_goes_first() {
    let start = Instant::now();
    let mut queue = of(100);
    let long = queue.push(waiting("a", Priority::Normal, start));
    let short = queue.push(Waiting { work: 10, ..waiting("a", Priority::Normal, start) });
    assert_eq!(queue.position(long).unwrap().0, 2);
    // Until the long one has waited so long that it is a level above.
    let later = start + AGEING;
    let newer = queue.push(Waiting { work: 10, ..waiting("a", Priority::Normal, later) });
    queue.rise(later);
    assert_eq!(order(&mut queue), [short, long, newer]);
}

#[test]
fn the_more_urgent_go_first_and_the_old_rise() {
    let start = Instant::now();
    let mut queue = of(100);
    let low = queue.push(waiting("a", Priority::Low, start));
    let normal = queue.push(waiting("b", Priority::Normal, start));
    let urgent = queue.push(waiting("c", Priority::Urgent, start));
    assert_eq!(queue.first(|_| true).unwrap().number, urgent);
    // The low one has risen three times, the urgent ones after it are younger.
    let later = start + 3 * AGEING;
    let young = queue.push(waiting("d", Priority::Urgent, later));
    queue.rise(later);
    assert_eq!(order(&mut queue), [low, normal, urgent, young]);
}

#[test]
fn one_that_is_first_goes_before_all_others_however_old() {
    let start = Instant::now();
    let mut queue = of(100);
    let old = queue.push(waiting("a", Priority::Urgent, start));
    let later = start + 9 * AGEING;
    let first = queue.push(Waiting { first: true, ..waiting("b", Priority::Low, later) });
    queue.rise(later);
    assert_eq!(order(&mut queue), [first, old]);
}

#[test]
fn a_live_one_ranks_as_it_would_in_the_queue() {
    let start = Instant::now();
    let levels = [
        (0, (4, 7)),
        (29, (4, 7)),
        (30, (3, 7)),
        (60, (2, 7)),
        (89, (2, 7)),
        (90, (1, 0)),
        (900_000, (1, 0)),
    ];
    for (waited, expected) in levels {
        let now = start + Duration::from_secs(waited);
        assert_eq!(standing(Priority::Low, 7, start, now, AGEING), expected);
        let mut queue = of(1);
        queue.push(Waiting { work: 7, ..waiting("a", Priority::Low, start) });
        queue.rise(now);
        let rank = queue.first(|_| true).unwrap();
        assert_eq!((rank.level, rank.work), expected, "after {waited} s");
    }
    let urgent = |seconds| standing(Priority::Urgent, 7, start, start + Duration::from_secs(seconds), AGEING);
    assert_eq!((urgent(29), urgent(30)), ((1, 7), (1, 0)));
    let back = standing(Priority::Normal, 7, start + AGEING, start, AGEING);
    assert_eq!(back, (3, 7), "a clock that goes backwards");
}

#[test]
fn a_model_that_cannot_be_used_holds_nobody_else_up() {
    let start = Instant::now();
    let mut queue = of(100);
    queue.push(Waiting { model: "broken".into(), ..waiting("a", Priority::Urgent, start) });
    let other = queue.push(waiting("a", Priority::Low, start));
    assert_eq!(queue.first(|model| model != "broken").unwrap().number, other);
    assert_eq!(queue.drain(Some("broken")).len(), 1);
    assert_eq!(queue.len(), 1);
}

#[test]
fn capacity_counts_the_reserved() {
    let mut queue = of(2);
    let client = "a".into();
    assert_eq!((queue.reserve(&client, 10), queue.reserve(&client, 10)), (Ok(()), Ok(())));
    assert_eq!(queue.reserve(&client, 10), Err(Full::Queue));
    queue.release(&client, 10);
    queue.push(waiting("a", Priority::Normal, Instant::now()));
    assert_eq!(queue.reserve(&client, 10), Err(Full::Queue));
}

#[test]
fn a_client_that_has_its_share_leaves_room_for_others() {
    let mut queue = Queue::new(Limits { jobs: 100, client_jobs: 2, client_bytes: 100 }, AGEING);
    let (many, large, other) = ("many".into(), "large".into(), "other".into());
    let first = queue.push(waiting("many", Priority::Normal, Instant::now()));
    assert_eq!(queue.reserve(&many, 10), Ok(()));
    assert_eq!(queue.reserve(&many, 10), Err(Full::ClientJobs(3)));
    assert_eq!(queue.reserve(&large, 101), Err(Full::ClientBytes(101)));
    assert_eq!(queue.reserve(&other, 100), Ok(()));
    assert_eq!(queue.shares(), (2, 2));
    queue.take(first);
    assert_eq!(queue.reserve(&many, 10), Ok(()), "one that runs waits no more");
    for client in [&many, &many, &other] {
        queue.release(client, if client == &other { 100 } else { 10 });
    }
    assert!(queue.shares.is_empty());
}

/// Jobs that are taken, with their numbers.
type Taken = Vec<(u64, Waiting<()>)>;

/// Three that go next beside the taken ones, whose clients have given up their turns, by a choice.
fn chosen(queue: &Queue<()>, taken: &Taken, usable: impl Fn(&str) -> bool) -> Vec<Rank> {
    let mut choice = Choice::new(queue);
    taken.iter().for_each(|(_, running)| choice.leave(&running.client));
    let mut ranks = vec![];
    while let Some(rank) = choice.first(&usable).filter(|_| ranks.len() < 3) {
        assert_eq!(choice.rank(rank.number), Some(rank));
        choice.take(rank.number);
        ranks.push(rank);
    }
    ranks
}

/// The same by changing the queue, and changing it back.
fn taken_at_once(queue: &mut Queue<()>, taken: &Taken, usable: impl Fn(&str) -> bool) -> Vec<Rank> {
    taken.iter().for_each(|(_, running)| queue.leave(&running.client));
    let mut ranks = vec![];
    let mut out = vec![];
    while let Some(rank) = queue.first(&usable).filter(|_| ranks.len() < 3) {
        let Entry { level, work, rises, .. } = queue.entries[&rank.number];
        out.push((rank.number, level, work, rises, queue.take(rank.number).unwrap()));
        ranks.push(rank);
    }
    for (number, level, work, rises, waiting) in out {
        queue.leave(&waiting.client);
        queue.put(number, waiting);
        queue.step_out(number);
        queue.entries.get_mut(&number).unwrap().work = work;
        queue.line_up(number, level, rises.map_or_else(Instant::now, |rises| rises - AGEING));
    }
    taken.iter().for_each(|(_, running)| queue.count(&running.client));
    ranks
}

#[derive(Clone, Debug)]
enum Act {
    Push { client: u8, priority: usize, model: u8, work: u64, deadline: Option<u64> },
    Take { models: u8 },
    Cancel { which: usize },
    Leave,
    PutBack,
    Wait { seconds: u64 },
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0u8..4, 0usize..4, 0u8..3, 0u64..3, proptest::option::of(0u64..100))
            .prop_map(|(client, priority, model, work, deadline)| Act::Push { client, priority, model, work, deadline }),
        3 => (1u8..8).prop_map(|models| Act::Take { models }),
        1 => any::<usize>().prop_map(|which| Act::Cancel { which }),
        2 => Just(Act::Leave),
        1 => Just(Act::PutBack),
        1 => (0u64..60).prop_map(|seconds| Act::Wait { seconds }),
    ]
}

proptest! {
    #[test]
    fn nothing_is_lost_or_doubled_and_the_first_is_the_first(acts in proptest::collection::vec(acts(), 0..200)) {
        let start = Instant::now();
        let mut now = start;
        let mut queue = of(1000);
        let mut inside = BTreeSet::new();
        let mut taken: Taken = vec![];
        for act in acts {
            match act {
                Act::Push { client, priority, model, work, deadline } => {
                    let number = queue.push(Waiting {
                        model: model.to_string().into(),
                        work,
                        deadline: deadline.map(|seconds| now + Duration::from_secs(seconds)),
                        ..waiting(&client.to_string(), Priority::ALL[priority], now)
                    });
                    prop_assert!(inside.insert(number));
                }
                Act::Take { models } => {
                    queue.rise(now);
                    let usable = |model: &str| models & (1 << model.parse::<u8>().unwrap()) != 0;
                    let first = queue.first(usable);
                    // The same, the slow way.
                    let slow = inside.iter().filter(|number| usable(&queue.get(**number).unwrap().model)).map(|number| {
                        let one = queue.get(*number).unwrap();
                        let (level, work) = standing(one.priority, one.work, one.since, now, AGEING);
                        let running = taken.iter().filter(|(_, other)| other.client == one.client).count();
                        let before = inside.iter().filter(|other| {
                            let entry = queue.get(**other).unwrap();
                            let standing = standing(entry.priority, entry.work, entry.since, now, AGEING);
                            entry.client == one.client && entry.model == one.model
                                && (standing.1, *other) < (work, number) && standing.0 == level
                        });
                        Rank { level, turn: running + before.count(), work, number: *number }
                    }).min();
                    prop_assert_eq!(first, slow);
                    prop_assert_eq!(chosen(&queue, &taken, usable), taken_at_once(&mut queue, &taken, usable));
                    if let Some(Rank { number, .. }) = first {
                        prop_assert!(inside.remove(&number));
                        taken.push((number, queue.take(number).unwrap()));
                    }
                }
                Act::Cancel { which } => {
                    let number = inside.iter().nth(which % inside.len().max(1)).copied();
                    if let Some(number) = number {
                        prop_assert!(inside.remove(&number));
                        prop_assert!(queue.remove(number).is_some() && queue.remove(number).is_none());
                    }
                }
                Act::Leave => if let Some((_, gone)) = taken.pop() {
                    queue.leave(&gone.client);
                },
                Act::PutBack => if let Some((number, back)) = taken.pop() {
                    inside.insert(number);
                    queue.leave(&back.client);
                    queue.put(number, back);
                },
                Act::Wait { seconds } => {
                    now += Duration::from_secs(seconds);
                    let before = queue.len();
                    let expired = queue.expire(now).len();
                    inside.retain(|number| queue.get(*number).is_some());
                    prop_assert_eq!(before - expired, inside.len());
                    prop_assert!(inside.iter().all(|number| queue.get(*number).unwrap().deadline.is_none_or(|at| at > now)));
                }
            }
            prop_assert_eq!(queue.len(), inside.len());
            prop_assert_eq!(queue.by_priority().iter().map(|(count, _)| count).sum::<usize>(), inside.len());
        }
        queue.rise(now);
        taken.drain(..).for_each(|(_, gone)| queue.leave(&gone.client));
        for number in &inside {
            prop_assert!((1..=inside.len()).contains(&queue.position(*number).unwrap().0));
        }
        let left = order(&mut queue);
        prop_assert_eq!(left.len(), inside.len());
        prop_assert_eq!(left.into_iter().collect::<BTreeSet<_>>(), inside);
        prop_assert!(queue.shares.is_empty());
        prop_assert!(queue.lanes.is_empty() && queue.rises.is_empty() && queue.deadlines.is_empty());
        prop_assert_eq!(queue.steps, 0);
    }

    #[test]
    fn no_job_starves_under_a_flood_of_urgent_ones(priority in 0usize..4, rate in 1usize..5) {
        let start = Instant::now();
        let mut queue = of(100_000);
        let patient = queue.push(waiting("patient", Priority::ALL[priority], start));
        let mut taken_at = None;
        for second in 0..200u64 {
            let now = start + Duration::from_secs(second);
            for _ in 0..rate {
                queue.push(waiting("flood", Priority::Urgent, now));
            }
            queue.rise(now);
            let number = queue.first(|_| true).unwrap().number;
            let one = queue.take(number).unwrap();
            queue.leave(&one.client);
            if number == patient {
                taken_at = Some(second);
                break;
            }
        }
        prop_assert!(taken_at.is_some_and(|second| second <= 30 * priority as u64 + 1), "{taken_at:?}");
    }

    #[test]
    fn positions_count_from_one_and_the_first_is_next(jobs in proptest::collection::vec((0u8..3, 0usize..4), 1..40)) {
        let start = Instant::now();
        let mut queue = of(100);
        for (client, priority) in &jobs {
            queue.push(waiting(&client.to_string(), Priority::ALL[*priority], start));
        }
        let mut positions: Vec<_> =
            queue.iter().map(|(number, _)| (queue.position(number).unwrap().0, number)).collect();
        positions.sort_unstable();
        prop_assert_eq!(queue.first(|_| true).unwrap().number, positions[0].1);
        let counted: Vec<_> = positions.iter().map(|(position, _)| *position).collect();
        prop_assert_eq!(counted, (1..=jobs.len()).collect::<Vec<_>>());
    }
}
