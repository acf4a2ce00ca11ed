/** Zoom and pan of the image by wheel, fingers, keys and buttons. */

const LARGEST = 24;
const STEP = 1.4;
const PAN_PX = 60;

/** Shows a scene in a viewport, fitted at first. */
export class Zoom {
  private scale = 1;
  private x = 0;
  private y = 0;
  private fitted = 1;
  private readonly pointers = new Map<number, PointerEvent>();

  constructor(
    private readonly viewport: HTMLElement,
    private readonly scene: HTMLElement,
    private readonly width: number,
    private readonly height: number,
  ) {
    scene.style.width = `${width}px`;
    scene.style.height = `${height}px`;
    new ResizeObserver(() => this.fit()).observe(viewport);
    viewport.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    viewport.addEventListener("pointerdown", (event) => this.onDown(event));
    viewport.addEventListener("pointermove", (event) => this.onMove(event));
    for (const kind of ["pointerup", "pointercancel"] as const) {
      viewport.addEventListener(kind, (event) => this.pointers.delete(event.pointerId));
    }
    viewport.addEventListener("dblclick", (event) => this.zoomAt(2, ...this.place(event)));
    viewport.addEventListener("keydown", (event) => this.onKey(event));
  }

  /** Shows the whole image. */
  fit(): void {
    const { clientWidth, clientHeight } = this.viewport;
    this.fitted = Math.min(clientWidth / this.width, clientHeight / this.height);
    this.scale = this.fitted;
    this.x = (clientWidth - this.width * this.scale) / 2;
    this.y = (clientHeight - this.height * this.scale) / 2;
    this.show();
  }

  /** Zooms in or out about the middle. */
  step(inwards: boolean): void {
    const { clientWidth, clientHeight } = this.viewport;
    this.zoomAt(inwards ? STEP : 1 / STEP, clientWidth / 2, clientHeight / 2);
  }

  private zoomAt(factor: number, x: number, y: number): void {
    const most = Math.max(LARGEST, LARGEST * this.fitted);
    const next = Math.min(Math.max(this.scale * factor, this.fitted), most);
    this.x = x - ((x - this.x) * next) / this.scale;
    this.y = y - ((y - this.y) * next) / this.scale;
    this.scale = next;
    this.show();
  }

  private pan(x: number, y: number): void {
    this.x += x;
    this.y += y;
    this.show();
  }

  private show(): void {
    const { clientWidth, clientHeight } = this.viewport;
    this.x = held(this.x, clientWidth, this.width * this.scale);
    this.y = held(this.y, clientHeight, this.height * this.scale);
    this.scene.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.scene.style.setProperty("--zoom", String(this.scale));
  }

  private place(event: MouseEvent): [number, number] {
    const frame = this.viewport.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }

  private onWheel(event: WheelEvent): void {
    event.preventDefault();
    this.zoomAt(Math.exp(-event.deltaY / 400), ...this.place(event));
  }

  private onDown(event: PointerEvent): void {
    if ((event.target as Element).closest("button")) return;
    this.viewport.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
  }

  private onMove(event: PointerEvent): void {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const other = [...this.pointers.values()].find((each) => each.pointerId !== event.pointerId);
    this.pointers.set(event.pointerId, event);
    if (!other) {
      this.pan(event.clientX - before.clientX, event.clientY - before.clientY);
      return;
    }
    const apart = (one: PointerEvent) =>
      Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    const [x, y] = this.place(event);
    const [otherX, otherY] = this.place(other);
    this.zoomAt(apart(event) / Math.max(apart(before), 1), (x + otherX) / 2, (y + otherY) / 2);
  }

  private onKey(event: KeyboardEvent): void {
    if (event.target !== this.viewport || event.ctrlKey || event.metaKey) return;
    const actions: Record<string, () => void> = {
      "+": () => this.step(true),
      "=": () => this.step(true),
      "-": () => this.step(false),
      "0": () => this.fit(),
      ArrowLeft: () => this.pan(PAN_PX, 0),
      ArrowRight: () => this.pan(-PAN_PX, 0),
      ArrowUp: () => this.pan(0, PAN_PX),
      ArrowDown: () => this.pan(0, -PAN_PX),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }
}

/** Returns an offset at which the image covers the viewport, or lies in its middle. */
function held(offset: number, frame: number, image: number): number {
  if (image <= frame) return (frame - image) / 2;
  return Math.min(0, Math.max(frame - image, offset));
}
