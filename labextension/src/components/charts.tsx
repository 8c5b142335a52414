import { useMemo } from "react";

import type { LeaseReadings, Measure, ReadDevice } from "../models/readings";
import { extremesOf, linesOf } from "../models/readings";
import { Chart, colourOf, DASHES } from "./chart";
import { EmptyNote } from "./parts";
import type { Words } from "./words";
import { useWords } from "./words";

interface Shown {
  measure: Measure;
  title: string;
  /** The top of its scale where nothing reaches above it. */
  top: number;
  write: (value: number) => string;
}

function shownOf(devices: readonly ReadDevice[], { trans, formats }: Words): Shown[] {
  return [
    {
      measure: "utilisation_percent",
      title: trans.__("Utilisation"),
      top: 100,
      write: (value) => trans.__("%1 %", formats.number(value)),
    },
    {
      measure: "memory_used_mib",
      title: trans.__("Memory"),
      top: Math.max(1024, ...devices.map(({ memory_total_mib: total }) => total ?? 0)),
      write: (value) => formats.memory(value),
    },
    {
      measure: "temperature_celsius",
      title: trans.__("Temperature"),
      top: 90,
      write: (value) => trans.__("%1 °C", formats.number(value)),
    },
    {
      measure: "power_watts",
      title: trans.__("Power"),
      top: 50,
      write: (value) => trans.__("%1 W", formats.number(value)),
    },
  ];
}

/** What the devices of a lease do and did in the last hour: lines, and the same in numbers. */
export function Charts({ readings, now }: { readings: LeaseReadings; now: number }): JSX.Element {
  const words = useWords();
  const { trans } = words;
  const { devices, simulated } = readings;
  if (!devices.some((device) => device.readings.length)) {
    return <EmptyNote>{trans.__("The first readings come within a few seconds.")}</EmptyNote>;
  }
  const shown = shownOf(devices, words).filter(({ measure }) => devices.some((device) => extremesOf(device, measure)));
  return (
    <div className="ch-Charts">
      {simulated && (
        <p className="ch-Hint">{trans.__("These devices are simulated, and their readings are made up.")}</p>
      )}
      {devices.length > 1 && <Key devices={devices} />}
      {shown.map((each) => (
        <Measured key={each.measure} readings={readings} until={now / 1000} {...each} />
      ))}
      <details className="ch-Charts-numbers">
        <summary>{trans.__("In numbers")}</summary>
        <Numbers devices={devices} shown={shown} />
      </details>
    </div>
  );
}

function nameOf({ index, name }: ReadDevice, { trans }: Words): string {
  return trans.__("%1: %2", index, name);
}

function Measured(props: Shown & { readings: LeaseReadings; until: number }): JSX.Element {
  const words = useWords();
  const { trans } = words;
  const { measure, readings, title, top, until, write } = props;
  const lines = useMemo(() => linesOf(readings, measure), [readings, measure]);
  const all = readings.devices.flatMap((device) => extremesOf(device, measure) ?? []);
  const nows = all.map(({ now }) => now);
  const [low, high] = [Math.min(...nows), Math.max(...nows)];
  const now = low === high ? write(low) : trans.__("%1 to %2", write(low), write(high));
  const [least, most] = [Math.min(...all.map((each) => each.least)), Math.max(...all.map((each) => each.most))];
  const label = trans.__("%1 in the last hour: now %2, at least %3, at most %4", title, now, write(least), write(most));
  return (
    <figure className="ch-Charts-one">
      <figcaption>
        <span>{title}</span>
        <span className="ch-Charts-now">{now}</span>
      </figcaption>
      <Chart lines={lines} until={until} top={top} write={write} label={label} />
    </figure>
  );
}

/** Which line is which device: by its dashes. */
function Key({ devices }: { devices: readonly ReadDevice[] }): JSX.Element {
  const words = useWords();
  return (
    <ul className="ch-Charts-key" aria-label={words.trans.__("Lines")}>
      {devices.map((device, line) => (
        <li key={device.uuid}>
          <svg width="36" height="8" aria-hidden="true">
            <line
              x1="0"
              x2="36"
              y1="4"
              y2="4"
              stroke={colourOf(line)}
              strokeWidth="2"
              strokeDasharray={DASHES[line % DASHES.length]?.join(" ")}
            />
          </svg>
          <span>{nameOf(device, words)}</span>
        </li>
      ))}
    </ul>
  );
}

function Numbers({ devices, shown }: { devices: readonly ReadDevice[]; shown: readonly Shown[] }): JSX.Element {
  const words = useWords();
  const { trans } = words;
  return (
    <table>
      <caption className="ch-visually-hidden">{trans.__("Readings of the last hour")}</caption>
      {devices.map((device) => (
        <tbody key={device.uuid}>
          {devices.length > 1 && (
            <tr>
              <th scope="rowgroup" colSpan={4}>
                {nameOf(device, words)}
              </th>
            </tr>
          )}
          <tr>
            <th scope="col">{trans.__("Measure")}</th>
            <th scope="col">{trans.__("Now")}</th>
            <th scope="col">{trans.__("Least")}</th>
            <th scope="col">{trans.__("Most")}</th>
          </tr>
          {shown.map(({ measure, title, write }) => {
            const extremes = extremesOf(device, measure);
            const said = (value: number | undefined) => (value === undefined ? trans.__("unknown") : write(value));
            return (
              <tr key={measure}>
                <th scope="row">{title}</th>
                <td>{said(extremes?.now)}</td>
                <td>{said(extremes?.least)}</td>
                <td>{said(extremes?.most)}</td>
              </tr>
            );
          })}
        </tbody>
      ))}
    </table>
  );
}
