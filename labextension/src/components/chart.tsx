import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import type { Lines } from "../models/readings";
import { useWords } from "./words";

const HEIGHT_PX = 96;
/** A lease that has just begun is shown over this time, so that its lines are seen; later ones over an hour. */
const SPAN_LEAST_SECONDS = 300;
const SPAN_MOST_SECONDS = 3600;
/** Lines are told apart by their dashes; the colours only help. */
export const DASHES: readonly (readonly number[])[] = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 2], [1, 5], [14, 5]];
const COLOURS = ["brand-color1", "success-color1", "warn-color1", "error-color1", "info-color1", "ui-font-color1"];

export interface ChartProps {
  lines: Lines;
  /** The newest moment shown, in seconds. */
  until: number;
  /** The top of the scale; a value above it moves it. */
  top: number;
  /** A value of the scale as it is written. */
  write: (value: number) => string;
  /** What a person who doesn't see the lines is told. */
  label: string;
}

/** The theme's colour, resolved: a canvas doesn't know custom properties. */
function colour(node: Element, name: string): string {
  return getComputedStyle(node).getPropertyValue(`--jp-${name}`).trim() || "currentColor";
}

/** The colour's name of a device's line, for the key. */
export const colourOf = (device: number): string => `var(--jp-${COLOURS[device % COLOURS.length]})`;

/** Lines over the last hour. What it draws is told in words beside it. */
export function Chart({ lines, until, top, write, label }: ChartProps): JSX.Element {
  const { formats } = useWords();
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const span = Math.min(SPAN_MOST_SECONDS, Math.max(SPAN_LEAST_SECONDS, until - (lines.at[0] ?? until)));
  const drawn = useRef({ formats, since: until - span, until, top, write });
  drawn.current = { formats, since: until - span, until, top, write };
  const count = lines.values.length;

  useEffect(() => {
    const node = host.current;
    if (!node) {
      return undefined;
    }
    const font = () => `11px ${getComputedStyle(node).fontFamily}`;
    const axis: uPlot.Axis = {
      stroke: () => colour(node, "ui-font-color1"),
      grid: { stroke: () => colour(node, "border-color2"), width: 1 },
      ticks: { show: false },
      font: font(),
    };
    const options: uPlot.Options = {
      width: node.clientWidth || 240,
      height: HEIGHT_PX,
      legend: { show: false },
      cursor: { show: false },
      padding: [8, 8, 0, 0],
      scales: {
        x: { time: true, range: () => [drawn.current.since, drawn.current.until] },
        y: { range: (_, __, most) => [0, Math.max(drawn.current.top, (most ?? 0) * 1.1)] },
      },
      axes: [
        {
          ...axis,
          size: 24,
          gap: 8,
          space: 70,
          values: (_, marks) => marks.map((at) => drawn.current.formats.time(at * 1000)),
        },
        {
          ...axis,
          size: 62,
          gap: 6,
          splits: (_, __, ___, most) => [0, most / 2, most],
          values: (_, marks) => marks.map((value) => drawn.current.write(value)),
        },
      ],
      series: [
        {},
        ...Array.from({ length: count }, (_, device) => ({
          stroke: () => colour(node, COLOURS[device % COLOURS.length] ?? "ui-font-color1"),
          width: 1.5,
          dash: [...(DASHES[device % DASHES.length] ?? [])],
          points: { show: false },
        })),
      ],
    };
    const made = new uPlot(options, [[], ...Array.from({ length: count }, () => [])], node);
    plot.current = made;
    const sized = new ResizeObserver(() => {
      if (node.clientWidth) {
        made.setSize({ width: node.clientWidth, height: HEIGHT_PX });
      }
    });
    sized.observe(node);
    // JupyterLab names the theme on the body once its colours hold.
    const themed = new MutationObserver(() => made.redraw(false, true));
    themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name", "data-jp-theme-light"] });
    return () => {
      sized.disconnect();
      themed.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [count]);

  useEffect(() => {
    plot.current?.setData([lines.at, ...lines.values] as uPlot.AlignedData);
  }, [lines, count, until]);

  return <div ref={host} className="ch-Chart" role="img" aria-label={label} />;
}
