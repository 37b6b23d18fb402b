// The page: shows frames as they come, says which keys are held. The server decides all else.
const VERSION = 1, BACK_OFF = 1000, SHOWN = 300
const at = (id) => document.getElementById(id)
const canvas = at('picture'), real = at('real'), brush = canvas.getContext('2d'), strip = at('strip')
const held = []          // codes, those pressed last at the end
const arrived = []       // times of frames, ms
const lags = []          // from key to picture, ms
const judged = []        // value, reward, goes_on of the last frames
let socket, keys = [], hello = null, stamp = 0, waiting = 0, started = 0

const say = (what) => { if (socket?.readyState === 1) socket.send(JSON.stringify(what)) }
const tell = (text) => { at('state').textContent = text }

function connect() {
  socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/socket${location.search}`)
  socket.binaryType = 'arraybuffer'
  socket.onmessage = ({ data }) => typeof data === 'string' ? hear(JSON.parse(data)) : show(data)
  socket.onclose = ({ reason }) => {
    hello = null
    tell(`The connection ended${reason ? `: ${reason}` : ''}. Trying again …`)
    setTimeout(connect, BACK_OFF)
  }
}

function hear(said) {
  if (said.error) return console.warn(said.error)
  if (said.full) return tell('All seats are taken, and so is the queue. Come back later.')
  if (said.queue) return tell(`All ${said.seats} seats are taken. You are number ${said.queue} in the queue.`)
  if (said.hello !== VERSION) return tell('The server speaks another version: reload the page.')
  hello = said
  keys = said.keys
  judged.length = 0
  const [height, width] = said.size
  canvas.width = width
  canvas.height = height
  real.width = width
  real.height = height
  at('beside').hidden = !said.real
  fit()
  legend()
  for (const kind of ['mp4', 'gif']) at(kind).href = `/clip/${said.token}.${kind}`
  at('clips').hidden = false
  at('agent').hidden = strip.hidden = at('judged').hidden = !said.agent
  at('places').hidden = !said.starts.length
  at('starts').replaceChildren(...said.starts.map((picture, number) => {
    const button = document.createElement('button'), image = new Image()
    image.src = `data:image/${picture.startsWith('iVBOR') ? 'png' : 'jpeg'};base64,${picture}`
    image.alt = `moment ${number + 1}`
    button.append(image)
    button.onclick = () => begin(number)
    return button
  }), Object.assign(document.createElement('button'), { textContent: 'nothing', onclick: () => begin(null) }))
  started = said.starts.length ? 0 : null
  tell('You dream. Keys are below; Tab reaches everything else.')
}

async function show(data) {
  const length = new DataView(data).getUint32(0, true)
  const about = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)))
  const begins = 4 + length, ends = begins + about.bytes
  brush.drawImage(await createImageBitmap(new Blob([new Uint8Array(data, begins, about.bytes)])), 0, 0)
  const beside = ends < data.byteLength
  if (beside) real.getContext('2d').drawImage(await createImageBitmap(new Blob([new Uint8Array(data, ends)])), 0, 0)
  if (real.hidden === beside) {
    real.hidden = !beside
    fit()
  }
  if (about.error) tell(about.error)
  if (about.over) tell('The real episode is over; the dream goes on.')
  say({ do: 'seen' })
  const now = performance.now()
  arrived.push(now)
  if (arrived.length > 60) arrived.shift()
  if (waiting && about.stamp === waiting) {
    lags.push(now - waiting)
    if (lags.length > 20) lags.shift()
    waiting = 0
  }
  canvas.dataset.frame = about.frame
  canvas.dataset.action = JSON.stringify(about.action ?? {})
  numbers(about)
  if ('value' in about) judge(about)
}

function numbers({ seed, frame, ms }) {
  const seconds = (arrived.at(-1) - arrived[0]) / 1000
  const fps = arrived.length > 1 ? ((arrived.length - 1) / seconds).toFixed(1) : '–'
  const lag = lags.length ? `${[...lags].sort((a, b) => a - b)[lags.length >> 1].toFixed(0)} ms from key to picture` : 'press a key'
  at('numbers').textContent = `seed ${seed} · frame ${frame} · ${fps} frames/s · ${ms.toFixed(1)} ms a frame · ${lag} · K = ${hello?.sampling_steps}`
}

function judge({ value, reward, goes_on, agent, action }) {
  judged.push([value, reward, goes_on])
  if (judged.length > SHOWN) judged.shift()
  const [part] = Object.entries(action ?? {}), name = part && hello.names[part[0]]?.[part[1]]
  at('judged').textContent = `value ${value.toFixed(2)} · reward ${reward.toFixed(2)} · goes on ${(100 * goes_on).toFixed(0)} %${agent && name ? ` · the agent: ${name}` : ''}`
  const draw = strip.getContext('2d'), styles = ['#2a7de1', '#2e9e4f', '#c2571a']
  draw.clearRect(0, 0, strip.width, strip.height)
  styles.forEach((style, line) => {
    const numbers = judged.map((one) => one[line])
    const low = line === 2 ? 0 : Math.min(...numbers), high = line === 2 ? 1 : Math.max(...numbers, low + 0.1)
    draw.strokeStyle = style
    draw.lineWidth = 1.5
    draw.beginPath()
    numbers.forEach((number, i) => draw.lineTo(i * strip.width / SHOWN, 56 - 52 * (number - low) / (high - low)))
    draw.stroke()
  })
}

function fit() { // whole pixels: as many screen pixels for each as there is room for
  const room = Math.min(document.documentElement.clientWidth - 24, 680), ratio = window.devicePixelRatio || 1
  const high = Math.max(160, window.innerHeight * 0.6)
  const wide = real.hidden ? room : (room - 8) / 2
  const scale = Math.max(1, Math.floor(Math.min(wide / canvas.width, high / canvas.height) * ratio)) / ratio
  for (const one of [canvas, real]) {
    one.style.width = `${canvas.width * scale}px`
    one.style.height = `${canvas.height * scale}px`
  }
}

const short = (code) => ({ ArrowLeft: '←', ArrowRight: '→', ArrowUp: '↑', ArrowDown: '↓' })[code] ?? code.replace(/^(Key|Digit)/, '')

function legend() {
  at('touch').replaceChildren(...keys.map(({ code, label }) => {
    const button = document.createElement('button'), name = document.createElement('span'), key = document.createElement('kbd')
    button.dataset.code = code
    name.textContent = label
    key.textContent = short(code)
    button.append(name, key)
    button.onpointerdown = (event) => { event.preventDefault(); button.setPointerCapture(event.pointerId); press(code) }
    button.onpointerup = button.onpointercancel = () => release(code)
    return button
  }))
}

function changed() {
  stamp = performance.now()
  waiting = stamp
  say({ do: 'keys', held, stamp })
  for (const button of at('touch').children) button.classList.toggle('held', held.includes(button.dataset.code))
}
const press = (code) => { if (!held.includes(code)) { held.push(code); changed() } }
const release = (code) => { const place = held.indexOf(code); if (place >= 0) { held.splice(place, 1); changed() } }
const known = (code) => keys.some((key) => key.code === code)

addEventListener('keydown', (event) => {
  const typing = ['INPUT', 'SELECT'].includes(event.target.tagName), acting = event.target.tagName === 'BUTTON' && ['Space', 'Enter'].includes(event.code)
  if (typing || acting || event.ctrlKey || event.metaKey || event.altKey || !known(event.code)) return
  event.preventDefault()
  if (!event.repeat) press(event.code)
})
addEventListener('keyup', ({ code }) => release(code))
addEventListener('blur', () => [...held].forEach(release))
addEventListener('resize', fit)

const toggled = (button) => { const on = button.getAttribute('aria-pressed') !== 'true'; button.setAttribute('aria-pressed', on); return on }
const begin = (number) => { started = number; judged.length = 0; say({ do: 'begin', start: number, seed: Number(at('seed').value) || 0 }) }
at('pause').onclick = () => say({ do: 'pause', on: toggled(at('pause')) })
at('single').onclick = () => { at('pause').setAttribute('aria-pressed', true); say({ do: 'single' }) }
at('rewind').onclick = () => say({ do: 'rewind' })
at('again').onclick = () => begin(started)
at('agent').onclick = () => {
  const on = toggled(at('agent'))
  at('agent').textContent = on ? 'Take over' : 'Let the agent play'
  say({ do: 'agent', on })
}
at('speed').onchange = () => say({ do: 'speed', times: Number(at('speed').value) })
at('beside').onclick = () => begin('real')
at('fork').onclick = () => hello && open(`/?fork=${hello.token}`)
at('own').onchange = async () => {
  const [file] = at('own').files
  if (!file || !hello) return
  const answer = await fetch(`/picture/${hello.token}`, { method: 'POST', body: file })
  if (answer.ok) started = 'own'
  else tell(await answer.text())
}

function pad() { // a gamepad's cross and first button, as arrows and space
  const first = navigator.getGamepads?.().find(Boolean)
  if (first) {
    const [x, y] = first.axes, pressed = (number) => first.buttons[number]?.pressed
    const now = { ArrowLeft: x < -0.5 || pressed(14), ArrowRight: x > 0.5 || pressed(15), ArrowUp: y < -0.5 || pressed(12), ArrowDown: y > 0.5 || pressed(13), Space: pressed(0) }
    for (const [code, down] of Object.entries(now)) if (known(code)) (down ? press : release)(code)
  }
}
addEventListener('gamepadconnected', () => setInterval(pad, 16), { once: true })
connect()
