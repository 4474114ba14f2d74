//! The cells of an experiment, made: which together, in what order, and what happens where one fails.

use crate::cost::alike;
use crate::done::Done;
use crate::lease::Lease;
use crate::list::{List, Listed};
use crate::making::Making;
use crate::part::Part;
use crate::progress::{End, OfRuns, Progress};
use crate::results::{self, Results};
use crate::spec::{Expanded, Spec};
use crate::store::{Store, computing_of};
use crate::time_left::Speed;
use anyhow::{Error, Result, anyhow};
use latentrace_pipeline::nn::LIBTORCH;
use latentrace_pipeline::{Common, Lines, Named};
use latentrace_runs::{
    Cell, Computed, Loaded, Mode, NEGATIVE_UNUSED, OfCells, OfSweep, Ready, Sources, lost, set_by_pipeline,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the cells of a sweep are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct How {
    /// Each alone, or in batches.
    pub mode: Mode,
    /// How many pictures in one batch; the default is as many as fit.
    pub batch: Option<usize>,
    /// Whether cells are made again that failed before, or of which a file is not as it was written. A [`Part::Worker`] makes only
    /// those again of which a file cannot be read: a failure may be another worker's of just now, see [`Sweep::forgive`].
    pub retry: bool,
    /// Which of them.
    pub part: Part,
}

impl Default for How {
    /// All cells, each alone; what failed stays failed.
    fn default() -> How {
        How { mode: Mode::Alone, batch: None, retry: false, part: Part::All }
    }
}

/// An experiment whose cells have been checked, planned and named, each once, and can be made.
pub struct Sweep<'a> {
    pub(crate) spec: &'a Spec,
    /// The folder of the store.
    root: PathBuf,
    pub(crate) how: How,
    pub(crate) axes: Vec<crate::spec::Axis>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) loaded: Loaded,
    /// The hash of each model by its place.
    models: BTreeMap<String, String>,
    rules: Vec<OfCells>,
    lost: Vec<String>,
    sources: Sources,
    /// How many latent pixels, all pictures of a batch together, there is memory for. `None` until a batch does not fit.
    room: Option<i64>,
}

/// A cell to be made.
pub(crate) struct Task {
    pub(crate) cell: Cell,
    /// What the legend calls it.
    pub(crate) label: String,
    /// For each axis, which of its values it has; empty for a reference.
    pub(crate) place: Vec<usize>,
    pub(crate) is_reference: bool,
    /// Its run, as long as it may have to be made.
    pub(crate) ready: Option<Ready>,
    /// What it needs of its model's networks.
    pub(crate) lines: Lines,
    /// The keys under which it may be in a store. The last is the one under which the sweep makes it.
    keys: Vec<String>,
}

/// What a sweep came to.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// How many pictures are new.
    pub(crate) new: usize,
    /// How many rows the network computed: a row is one sample with one text.
    pub(crate) evaluations: usize,
}

/// Latent pixels in a batch, all pictures together, that even a small machine has room for.
const ROOM: i64 = 16_384;
/// How long a process waits at first before it looks again at a cell that another one has in hand.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// More pictures in one batch gain nothing.
const MOST: usize = 16;

impl<'a> Sweep<'a> {
    /// Checks that every cell can be run by its model, before any is, and that every rule has something to do in one of
    /// them. What the store in the folder `root`, if there is one, has chosen is followed. `tell` is told what a pipeline sets of the cells' schedulers, how often the rules fire, and what texts lose.
    ///
    /// # Errors
    /// A cell cannot be run, with its label, or not as the store has chosen; or a rule has nothing to do in any.
    pub fn new(spec: &'a Spec, how: How, root: &Path, tell: &dyn Fn(Progress)) -> Result<Sweep<'a>> {
        let Expanded { axes, points, references } = spec.expand()?;
        let mut sweep = Sweep {
            spec,
            root: root.to_path_buf(),
            how,
            tasks: Vec::new(),
            loaded: Loaded::computing(computing_of(root)?),
            models: BTreeMap::new(),
            rules: Vec::new(),
            lost: Vec::new(),
            sources: Sources::default(),
            room: None,
            axes,
        };
        let (mut rules, mut said) = (OfSweep::default(), BTreeSet::new());
        for point in points {
            let label = point.label(&sweep.axes);
            sweep.add(point.cell, label, Some(point.place), &mut rules, &mut said, tell)?;
        }
        for cell in references {
            let label = format!("reference, seed {}", cell.seed);
            sweep.add(cell, label, None, &mut rules, &mut said, tell)?;
        }
        for said in said {
            tell(Progress::Run(latentrace_runs::Event::Warning(&said)));
        }
        sweep.rules = rules.check()?;
        if !sweep.lost.is_empty() {
            tell(Progress::Lost { lines: &sweep.lost, cells: sweep.tasks.len() });
        }
        sweep.rules.iter().for_each(|rule| tell(Progress::Rule(rule)));
        Ok(sweep)
    }

    /// Prepares one cell.
    fn add(
        &mut self,
        cell: Cell,
        label: String,
        place: Option<Vec<usize>>,
        rules: &mut OfSweep,
        said: &mut BTreeSet<String>,
        tell: &dyn Fn(Progress),
    ) -> Result<()> {
        let model = self.loaded.get(&cell, &OfRuns(tell))?;
        let cell = if self.spec.says("guidance") { cell } else { cell.with_own_guidance(&model.checkpoint) };
        let names_none = self.spec.says("negative") && !self.spec.says("empty_negative");
        let cell = if names_none { cell.with_empty_text(&model.checkpoint) } else { cell };
        let ready = Ready::new(model, &cell, &self.spec.kept(), &mut self.sources);
        let mut ready = ready.map_err(|error| self.spec.of_cell(error, &label))?;
        if let Some(last) = self.tasks.last().and_then(|task| task.ready.as_ref()) {
            ready.share_plan(last);
        }
        rules.add(ready.fires());
        self.lost.extend(lost::lines(ready.description()).into_iter().next());
        said.extend(set_by_pipeline(&ready.request().scheduler));
        // A guidance of 1 among others is what they are compared with.
        let guidance_varies = self.axes.iter().any(|axis| axis.has("guidance"));
        let notes = ready.notes().iter().filter(|note| !(guidance_varies && *note == NEGATIVE_UNUSED));
        said.extend(notes.cloned());
        let lines = ready.lines(model, self.how.mode)?;
        let model = &ready.description().model.blake3;
        let name = cell.model.as_deref().map_or("the bundled model".into(), |place| place.display().to_string());
        self.models.insert(name, model.clone());
        let keyed = self.loaded.chosen().keyed(&cell, model, ready.computed()?, self.how.mode);
        let keys = keyed.into_iter().map(|(mode, computed)| ready.key(mode, computed)).collect::<Result<_>>()?;
        let (is_reference, place) = (place.is_none(), place.unwrap_or_default());
        self.tasks.push(Task { cell, label, place, is_reference, ready: Some(ready), lines, keys });
        Ok(())
    }

    /// How many cells there are, references included.
    pub fn cells(&self) -> usize {
        self.tasks.len()
    }

    /// The cells, with what decides their keys besides the spec.
    pub fn list(&self) -> List {
        let listed = |task: &Task| {
            let (key, also) =
                task.keys.split_last().map(|(key, also)| (key.clone(), also.to_vec())).unwrap_or_default();
            Listed { key, also, label: task.label.clone(), evaluations: Some(task.lines.evaluations()) }
        };
        List {
            name: self.spec.name.clone(),
            libtorch: LIBTORCH.into(),
            models: self.models.clone(),
            cells: self.tasks.iter().map(listed).collect(),
        }
    }

    /// The keys of the cells in the order in which they are made: those that share calls stand together.
    pub fn order(&self) -> Vec<String> {
        let all: Vec<usize> = (0..self.tasks.len()).collect();
        self.ordered(&all).into_iter().map(|place| self.tasks[place].own_key().to_string()).collect()
    }

    /// On how many CPU threads the cells are computed: the largest number of them.
    pub fn threads(&self) -> usize {
        let computed = self.tasks.iter().filter_map(|task| task.ready.as_ref()?.computed().ok()?.threads);
        computed.max().unwrap_or(1)
    }

    /// Prepares the store for other processes, which make parts of it: writes the list of the cells, and how they are computed.
    ///
    /// # Errors
    /// The store cannot be written, or another process has chosen to compute otherwise.
    pub fn hand_out(&self) -> Result<()> {
        let store = Store::open(&self.root)?;
        store.keep_computing(self.loaded.chosen())?;
        store.keep_list(&self.list(), true)
    }

    /// Forgets that cells could not be made, so that workers try them again.
    ///
    /// # Errors
    /// There is no store in the folder.
    pub fn forgive(&self, keys: &[String]) -> Result<()> {
        let store = Store::look(&self.root)?;
        keys.iter().for_each(|key| store.forgive(key));
        Ok(())
    }

    /// How many times a picture to start from was read.
    pub fn reads(&self) -> usize {
        self.sources.reads()
    }

    /// Makes what is missing in a store of the part that [`How`] says, then, if that is everything, measures and draws. A cell
    /// that another process has in hand is waited for at the end, but by a [`Part::Worker`].
    ///
    /// # Errors
    /// The store cannot be written, or a figure cannot be drawn. A cell that fails is no error here: see
    /// [`Results::failed`].
    pub fn run(mut self, tell: &dyn Fn(Progress)) -> Result<Results> {
        if self.how.part == Part::Gather {
            Store::look(&self.root)?; // which makes none
        }
        let store = Store::open(&self.root)?;
        store.keep_computing(self.loaded.chosen())?;
        store.keep_list(&self.list(), self.how.part == Part::All)?;
        let places = self.part()?;
        if self.how.retry && !self.is_worker() {
            store.read_all_of(places.iter().flat_map(|&place| &self.tasks[place].keys).map(String::as_str));
        }
        let made = self.make_missing(&store, &places, tell)?;
        if !self.how.part.gathers() {
            return Ok(results::of_part(&self, &store, &places, made));
        }
        // What is there is looked at when nobody else draws any more: a table never has less than an earlier one.
        let _figures = store.claim_figures(|| tell(Progress::Waiting("tables and figures")))?;
        let done = |is_reference: bool| -> Vec<Done> {
            let tasks = self.tasks.iter().filter(|task| task.is_reference == is_reference);
            let of = |task: &Task| {
                let (cell, label, place) = (task.cell.clone(), task.label.clone(), task.place.clone());
                Some(Done { cell, label, place, run: store.done(task.key(&store))? })
            };
            tasks.filter_map(of).collect()
        };
        let (cells, references) = store.at_once(|| (done(false), done(true)));
        let root = self.root.clone();
        results::finish(&mut self, (&root, &store), (cells, references), made, tell)
    }

    /// Whether it is one of several processes that make everything together. They neither wait for each other nor read all files of
    /// cells that are done: each would read the whole store.
    fn is_worker(&self) -> bool {
        matches!(self.how.part, Part::Worker(_))
    }

    /// The places of the cells that are to be made, in order.
    fn part(&self) -> Result<Vec<usize>> {
        let all: Vec<usize> = (0..self.tasks.len()).collect();
        self.how.part.places(self.ordered(&all), |place| &self.tasks[place].keys)
    }

    /// The places of the cells that are missing in a store and are to be made, and how many calls of the network they have.
    fn missing(&mut self, store: &Store, places: &[usize]) -> (Vec<usize>, usize) {
        let (mut missing, mut calls, is_worker) = (Vec::new(), 0, self.is_worker());
        for &index in places {
            let task = &mut self.tasks[index];
            if store.done(task.key(store)).is_some() {
                task.ready = None; // what it needed is of no use any more
                continue;
            }
            if self.how.retry && !is_worker {
                store.forgive(task.own_key());
            }
            let (failed, faulty) = (store.failure(task.own_key()), store.fault(task.own_key()));
            if failed.is_none() && (faulty.is_none() || self.how.retry) {
                calls += task.ready.as_ref().map_or(0, |ready| ready.description().calls);
                missing.push(index);
            }
        }
        (missing, calls)
    }

    fn make_missing(&mut self, store: &Store, places: &[usize], tell: &dyn Fn(Progress)) -> Result<Made> {
        let mut made = Made::default();
        let (missing, calls) = store.at_once(|| self.missing(store, places));
        self.check_threads(&missing)?;
        let done = places.iter().filter(|&&index| self.tasks[index].ready.is_none()).count();
        tell(Progress::Begin { cells: places.len(), done, calls });
        let mut left = Speed::new(missing.iter().map(|&index| self.tasks[index].lines.evaluations()));
        let batches = self.batches(&missing);
        self.tell_what_is_shared(&batches, tell);
        let shared = missing.iter().filter(|_| !self.is_timed());
        let mut common = Common::of(shared.map(|&index| &self.tasks[index].lines));
        let (mut elsewhere, mut blocked) = (Vec::new(), None);
        for batch in batches {
            let mut ours = Vec::new();
            for index in batch {
                let task = &self.tasks[index];
                if task.is_in_other_hands(store) {
                    elsewhere.push(index);
                    continue;
                }
                match store.claim(task.own_key()) {
                    Err(error) => _ = blocked.get_or_insert(error), // the other cells are made first
                    Ok(None) => elsewhere.push(index),
                    Ok(Some(claim)) if task.is_still_to_be_made(store, &claim)? => ours.push((index, claim)),
                    Ok(Some(_)) => {
                        // Another process has made it, just now.
                        task.ended(task.key(store), End::Kept, &mut left, tell);
                        common.begin(&task.lines);
                    }
                }
            }
            elsewhere.extend(self.make(store, ours, &mut common, (&mut made, &mut left), tell)?);
        }
        let waited_for = if self.is_worker() { Vec::new() } else { elsewhere };
        for index in waited_for {
            self.wait(store, index, &mut common, (&mut made, &mut left), tell)?;
        }
        blocked.map_or(Ok(made), Err)
    }

    /// Checks that cells can be made on as many threads as the store has chosen.
    fn check_threads(&self, missing: &[usize]) -> Result<()> {
        for ready in missing.iter().filter_map(|&index| self.tasks[index].ready.as_ref()) {
            let Computed { threads, .. } = ready.computed()?;
            let is_batched = self.how.mode == Mode::Batched && ready.can_share();
            threads.map_or(Ok(()), |own| self.loaded.chosen().check_threads(own, is_batched, &self.root))?;
        }
        Ok(())
    }

    /// Waits until another process has made a cell, or makes it if that process is gone.
    fn wait(
        &mut self,
        store: &Store,
        index: usize,
        common: &mut Common,
        (made, left): (&mut Made, &mut Speed),
        tell: &dyn Fn(Progress),
    ) -> Result<()> {
        tell(Progress::Waiting(&self.tasks[index].label));
        let mut pause = SHORTEST_PAUSE;
        loop {
            let task = &self.tasks[index];
            if task.is_done(store) || store.failure(task.own_key()).is_some() {
                task.ended(task.key(store), End::Kept, left, tell);
                common.begin(&task.lines);
                common.end();
                return Ok(());
            }
            if !task.is_in_other_hands(store)
                && let Some(claim) = store.claim(task.own_key())?
                && task.is_still_to_be_made(store, &claim)?
            {
                self.prepare_again(index, tell)?;
                if self.make(store, vec![(index, claim)], common, (made, left), tell)?.is_empty() {
                    return Ok(());
                }
            }
            std::thread::sleep(pause);
            pause = longer(pause, store.longest_pause());
        }
    }

    /// Prepares a cell again that this process had begun to make, and that another one took from it.
    fn prepare_again(&mut self, index: usize, tell: &dyn Fn(Progress)) -> Result<()> {
        if self.tasks[index].ready.is_none() {
            let cell = self.tasks[index].cell.clone();
            let model = self.loaded.get(&cell, &OfRuns(tell))?;
            self.tasks[index].ready = Some(Ready::new(model, &cell, &self.spec.kept(), &mut self.sources)?);
        }
        Ok(())
    }

    /// The order in which cells are made: those of one model together, and those that share calls one after the other.
    pub(crate) fn ordered(&self, tasks: &[usize]) -> Vec<usize> {
        let model = |cell: &Cell| (cell.model.clone(), cell.choice(), format!("{:?}", cell.options()));
        let runs: Vec<_> =
            tasks.iter().map(|&index| &self.tasks[index]).map(|task| (model(&task.cell), &task.lines)).collect();
        latentrace_pipeline::order(&runs).into_iter().map(|place| tasks[place]).collect()
    }

    /// For each batch, how many rows the network computes. What earlier batches have computed is not computed again.
    pub(crate) fn evaluations(&self, batches: &[Vec<usize>]) -> Vec<usize> {
        let lines = |batch: &Vec<usize>| batch.iter().map(|&index| &self.tasks[index].lines).collect();
        let batches: Vec<Vec<&Lines>> = batches.iter().map(lines).collect();
        match self.is_timed() {
            true => batches.chunks(1).flat_map(latentrace_pipeline::evaluations_of).collect(),
            false => latentrace_pipeline::evaluations_of(&batches),
        }
    }

    /// Whether the sweep shows how long its runs take. Then no batch takes over anything from another.
    fn is_timed(&self) -> bool {
        self.spec.figures.iter().any(|figure| figure.is_timed())
    }

    /// How many rows the network computes for each of the cells by itself, all together.
    pub(crate) fn evaluations_apart(&self, batches: &[Vec<usize>]) -> usize {
        batches.iter().flatten().map(|&index| self.tasks[index].lines.evaluations()).sum()
    }

    fn tell_what_is_shared(&self, batches: &[Vec<usize>], tell: &dyn Fn(Progress)) {
        let (evaluations, of) = (self.evaluations(batches).into_iter().sum(), self.evaluations_apart(batches));
        if evaluations < of {
            tell(Progress::Shared { evaluations, of });
        }
    }

    /// Which cells are made together: alone, each by itself; in batches, those of one model, plan and size, but for those
    /// that look into a network or change what passes there.
    pub(crate) fn batches(&self, tasks: &[usize]) -> Vec<Vec<usize>> {
        if self.how.mode == Mode::Alone {
            return tasks.iter().map(|index| vec![*index]).collect();
        }
        let mut groups: Vec<(Option<Cell>, usize, Vec<usize>)> = Vec::new();
        for &index in tasks {
            let task = &self.tasks[index];
            let Some(ready) = &task.ready else { continue };
            let [_, height, width] = ready.description().latents;
            let most = self.how.batch.unwrap_or_else(|| ((ROOM / (height * width).max(1)) as usize).clamp(1, MOST));
            let with = ready.can_share().then(|| alike(&task.cell));
            let room =
                groups.iter_mut().find(|(known, _, batch)| known.is_some() && *known == with && batch.len() < most);
            match room {
                Some((_, _, batch)) => batch.push(index),
                None => groups.push((with, most, vec![index])),
            }
        }
        groups.into_iter().map(|(_, _, batch)| batch).collect()
    }

    /// Makes cells that this process has claimed, together if there are several. Returns those that another process has taken
    /// over meanwhile, because this one could not renew its claims.
    fn make(
        &mut self,
        store: &Store,
        ours: Vec<(usize, Lease)>,
        common: &mut Common,
        (made, left): (&mut Made, &mut Speed),
        tell: &dyn Fn(Progress),
    ) -> Result<Vec<usize>> {
        let indices: Vec<usize> = ours.iter().map(|(index, _)| *index).collect();
        let Some(&first) = indices.first() else {
            common.end();
            return Ok(Vec::new());
        };
        tell(Progress::Making(&self.tasks[first].label));
        let runs: Vec<Ready> = indices.iter().filter_map(|&index| self.tasks[index].ready.take()).collect();
        indices.iter().for_each(|&index| common.begin(&self.tasks[index].lines));
        let model = self.loaded.get(&self.tasks[first].cell, &OfRuns(tell))?;
        let (claims, lost) = (ours.into_iter().collect(), Vec::new()); // until the cells are kept
        let mut making =
            Making { tasks: &self.tasks, store, claims, lost, model, made, left, room: &mut self.room, tell };
        if self.how.mode == Mode::Batched && runs.iter().all(Ready::can_share) {
            making.batched(&indices, runs, common)?;
        } else {
            for (&index, ready) in indices.iter().zip(runs) {
                making.alone(index, ready, &self.tasks[index].lines, common)?;
            }
        }
        let lost = making.lost;
        common.end();
        Ok(lost)
    }
}

impl Task {
    /// Its key in a store.
    pub(crate) fn key(&self, store: &Store) -> &str {
        self.keys.iter().find(|key| store.done(key).is_some()).map_or(self.own_key(), String::as_str)
    }

    /// Its lineages, with the key under which this sweep makes it.
    pub(crate) fn named(&self) -> Named<'_> {
        Named { name: self.own_key(), lines: &self.lines }
    }

    /// The key under which this sweep makes it. It never changes.
    pub(crate) fn own_key(&self) -> &str {
        self.keys.last().map_or("", String::as_str) // there is always one
    }

    /// Whether it is in a store, made alone or as the sweep makes it.
    fn is_done(&self, store: &Store) -> bool {
        store.done(self.key(store)).is_some()
    }

    /// Whether a cell that this process has claimed was neither made by another one meanwhile, nor tried in vain. What is damaged of it
    /// is removed. The cells are listed once.
    fn is_still_to_be_made(&self, store: &Store, claim: &Lease) -> Result<bool> {
        store.at_once(|| match self.is_done(store) || store.failure(self.own_key()).is_some() {
            true => Ok(false),
            false => store.discard(self.own_key(), claim).map(|()| true),
        })
    }

    /// Whether another process is making it under another key, which is as good.
    fn is_in_other_hands(&self, store: &Store) -> bool {
        let own = self.own_key();
        self.keys.iter().any(|key| key != own && store.is_claimed(key))
    }

    /// The error of a sweep that ends because it could not keep the cell.
    pub(crate) fn not_kept(&self, error: &Error) -> Error {
        anyhow!("{}: {error:#}\nhint: the same command goes on from this cell, once that is mended", self.label)
    }

    /// Tells what became of it, and how much is left.
    pub(crate) fn ended(&self, key: &str, end: End, speed: &mut Speed, tell: &dyn Fn(Progress)) {
        speed.ended(self.lines.evaluations(), end.whole());
        let (left, time_left) = (speed.cells_left(), speed.time_left());
        tell(Progress::Cell { label: &self.label, key, end, left, time_left });
    }
}

/// The pause after a pause: half as long again, up to the longest.
fn longer(pause: Duration, longest: Duration) -> Duration {
    (pause * 3 / 2).min(longest.max(SHORTEST_PAUSE))
}
