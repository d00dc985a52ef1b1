"use strict";
/** The page: what is styled, by which engine, and what the user sees of it. */
(function (stylesdk) {
  const $ = (id) => document.getElementById(id);
  const config = window.STYLESDK;
  const engine = config.mode === "local" ? new stylesdk.LocalEngine(config) : new stylesdk.RemoteEngine(config);
  const source = new stylesdk.Source($("before"));
  const recorder = new stylesdk.Recorder($("after"), $("before"));
  const keys = new stylesdk.Remembered("localStorage", "stylesdk.keys");
  const look = new stylesdk.LookControls(config, (change) => {
    engine.setLook(change);
    showStyle();
  });
  new stylesdk.Divider($("divider"), $("frame"));
  let file = null; // what is styled instead of a camera
  let lastFile = null; // what can be chosen again
  let running = false;
  let turn = 0; // of start and stop: what a later one overtook changes nothing any more

  async function start() {
    const mine = ++turn;
    void endRecording();
    engine.stop();
    setRunning(true);
    showState("connecting", file ? `Opening ${file.name} …` : "Opening the camera …");
    try {
      await (file ? source.openFile(file) : source.openCamera($("source").value));
      if (mine !== turn) return;
      await engine.start($("before"), $("after"));
    } catch (error) {
      if (mine === turn) stop(error.message);
    }
    if (!file) await listCameras();
  }

  function stop(message = "") {
    turn++;
    setRunning(false);
    void endRecording();
    engine.stop();
    source.close();
    showState(message ? "refused" : "idle", message);
  }

  function setRunning(value) {
    running = value;
    $("start").textContent = value ? "Stop" : "Start";
    $("start").classList.toggle("primary", !value);
  }

  function openFile(chosen) {
    if (!chosen) return;
    file = lastFile = chosen;
    const option = $("source").querySelector("[value=file]") || $("source").appendChild(new Option("", "file"));
    option.textContent = chosen.name;
    $("source").value = "file";
    void start();
  }

  async function listCameras() {
    const chosen = $("source").value;
    const cameras = await stylesdk.Source.cameras();
    const named = cameras.filter(({ name }) => name);
    const options = named.map(({ id, name }) => new Option(name, id));
    if (!options.length) options.push(new Option("Camera", ""));
    options.push(...$("source").querySelectorAll("[value=file]"));
    const told = (all) => JSON.stringify([...all].map(({ value, text }) => [value, text]));
    if (told(options) !== told($("source").options)) $("source").replaceChildren(...options); // it may be open
    const playing = $("before").srcObject?.getVideoTracks()[0]?.getSettings().deviceId;
    const wanted = file ? "file" : playing || chosen;
    const found = [...$("source").options].find(({ value }) => value === wanted);
    $("source").value = found ? wanted : $("source").options[0].value;
  }

  // What is seen

  function showState(state, message) {
    document.body.dataset.state = state;
    if ($("state").textContent !== message) $("state").textContent = message; // else it is read out again
    const drawn = $("after").dataset.drawn === "true";
    showDivider(running && drawn);
    $("snapshot").disabled = !drawn;
    $("record").disabled = !(drawn && running && stylesdk.Recorder.works);
    if (!running) $("figures").classList.add("off");
  }

  function showDivider(shown) {
    if (!shown && document.activeElement === $("divider")) $("start").focus();
    $("divider").hidden = !shown;
    $("frame").classList.toggle("divided", shown);
  }

  function showFrame() {
    if ($("after").dataset.drawn === "true") return;
    $("after").dataset.drawn = "true";
    showState("live", "");
  }

  function showFigures(figures) {
    const ms = (value) => (Number.isFinite(value) ? `${value.toFixed(value < 10 ? 1 : 0)} ms` : "–");
    const texts = {
      fps: Number.isFinite(figures.fps) ? figures.fps.toFixed(1) : "–",
      p50: ms(figures.p50),
      p99: ms(figures.p99),
      age: ms(figures.age),
      dropped: String(figures.dropped ?? "–"),
      backend: figures.backend || config.backend,
      transport: figures.transport || "this browser",
    };
    for (const [id, text] of Object.entries(texts)) $(id).textContent = text;
    $("figures").classList.toggle("off", !running);
  }

  function showStyle() {
    const { title, thumbnail } = look.style;
    $("backdrop").hidden = !thumbnail;
    if (thumbnail) $("backdrop").src = thumbnail;
    $("after").setAttribute("aria-label", title ? `After: ${title}` : "After");
  }

  // What is kept

  async function toggleRecording() {
    if (recorder.running) return endRecording();
    try {
      recorder.start();
    } catch (error) {
      showState(document.body.dataset.state, `This cannot be recorded here (${error.message}). Try another browser.`);
    }
    showRecording();
  }

  async function endRecording() {
    const ended = recorder.stop(look.style.name);
    showRecording();
    await ended;
  }

  function showRecording() {
    $("record").setAttribute("aria-pressed", String(recorder.running));
    $("record").querySelector("span").textContent = recorder.running ? "Stop recording" : "Record";
  }

  function toggleFullscreen() {
    void (document.fullscreenElement ? document.exitFullscreen() : $("stage").requestFullscreen());
  }

  // What the user does

  const KEYS = { " ": $("start"), s: $("snapshot"), r: $("record"), f: $("fullscreen") };

  function press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.matches("select")) return;
    if (!$("keys").checked) return;
    const presses = event.target.matches("button, summary, input:not([type=range])"); // which the space key works
    if (event.key === " " && presses) return;
    const key = event.key.toLowerCase(); // as with Caps Lock
    const button = KEYS[key];
    if (button ? button.hidden : !look.press(key)) return;
    button?.click();
    event.preventDefault();
  }

  function drop(event) {
    event.preventDefault();
    document.body.classList.toggle("dropping", event.type === "dragover");
    if (event.type === "drop") openFile(event.dataTransfer.files[0]);
  }

  engine.onstate = (state, message) => (state === "refused" ? stop(message) : showState(state, message));
  engine.onfigures = showFigures;
  engine.onframe = showFrame;
  source.onend = stop;
  $("before").onresize = () => {
    const { videoWidth, videoHeight } = $("before");
    if (videoWidth) $("frame").style.setProperty("--aspect", String(videoWidth / videoHeight));
  };
  $("start").onclick = () => (running ? stop() : void start());
  $("snapshot").onclick = () => void stylesdk.saveSnapshot($("after"), look.style.name);
  $("record").onclick = () => void toggleRecording();
  $("fullscreen").onclick = toggleFullscreen;
  $("fullscreen").hidden = !document.fullscreenEnabled;
  $("open").onclick = () => $("file").click();
  $("file").onchange = () => {
    openFile($("file").files[0]);
    $("file").value = ""; // the same one may be chosen again
  };
  $("source").onchange = () => {
    file = $("source").value === "file" ? lastFile : null;
    if (running) void start(); // a look at the list switches no camera on
  };
  $("keys").checked = keys.value !== "off";
  $("keys").onchange = () => (keys.value = $("keys").checked ? "on" : "off");
  document.addEventListener("keydown", press);
  for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, drop);
  navigator.mediaDevices?.addEventListener("devicechange", () => void listCameras());

  showStyle();
  showState("idle", "");
  void listCameras();
})((window.stylesdk ||= {}));
