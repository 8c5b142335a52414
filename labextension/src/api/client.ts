import type { ServerConnection } from "@jupyterlab/services";

import { ApiError } from "./errors";
import type { RequestOptions } from "./request";
import { addressOf, newKey, request } from "./request";
import type {
  AnswerOf,
  Approval,
  Availability,
  BodyOf,
  Booking,
  BookingSeries,
  Defaults,
  Estimate,
  HistoryLine,
  KernelPlace,
  Lease,
  Offer,
  Page,
  Person,
  Quote,
  Switch,
  SwitchRequest,
} from "./types";

const id = encodeURIComponent;

/**
 * The control plane's routes, one method each, named after their `operationId` in openapi.yaml.
 *
 * Writes of money and bookings take `key`, the idempotency key of one wish: a caller that may try again makes it once
 * with `newKey()` and hands the same one in each time.
 *
 * Each method rejects with an `ApiError` and with nothing else.
 */
export class ComputeHubClient {
  constructor(
    readonly serverSettings: ServerConnection.ISettings,
    /** False where the page itself said that this server has no ComputeHub: then nothing is asked. */
    private readonly isThere = true,
  ) {}

  getMe(): Promise<Person> {
    return this.get("me");
  }

  setAllowance(perDayMicrocredits: number): Promise<Person> {
    const body: BodyOf<"setAllowance"> = { per_day_microcredits: perDayMicrocredits };
    return this.ask("me/allowance", { method: "PUT", body });
  }

  /** Set those defaults that are named; null follows the administrator. */
  setDefaults(body: BodyOf<"setDefaults">): Promise<Defaults> {
    return this.ask("me/defaults", { method: "PUT", body });
  }

  listApprovals(): Promise<Page<Approval>> {
    return this.get("approvals");
  }

  approve(approvalId: string): Promise<Approval> {
    return this.post(`approvals/${id(approvalId)}/approve`);
  }

  decline(approvalId: string): Promise<Approval> {
    return this.post(`approvals/${id(approvalId)}/decline`);
  }

  listHistory(query: { cursor?: string; limit?: number; group?: "lease" | "none" } = {}): Promise<Page<HistoryLine>> {
    return this.get("history", query);
  }

  /** The address of the history as a file, which the browser downloads by itself. */
  historyFile(group: "lease" | "none"): string {
    return `${addressOf(this.serverSettings, "history.csv")}?group=${group}`;
  }

  listOffers(): Promise<Page<Offer>> {
    return this.get("offers");
  }

  quote(wish: BodyOf<"quote">): Promise<Quote> {
    return this.post("quotes", wish);
  }

  estimate(query: {
    model?: string;
    count?: number;
    duration_seconds?: number;
    notebook_path?: string;
  }): Promise<Estimate> {
    return this.get("estimates", query);
  }

  getAvailability(poolId: string, query: { start: string; end: string; step_seconds: number }): Promise<Availability> {
    return this.get(`pools/${id(poolId)}/availability`, query);
  }

  listBookings(
    query: { cursor?: string; limit?: number; from?: string; to?: string; state?: "upcoming" | "past" } = {},
  ): Promise<Page<Booking>> {
    return this.get("bookings", query);
  }

  book(wish: BodyOf<"book">, key = newKey()): Promise<Booking> {
    return this.post("bookings", wish, key);
  }

  getBooking(bookingId: string): Promise<Booking> {
    return this.get(`bookings/${id(bookingId)}`);
  }

  moveBooking(bookingId: string, wish: BodyOf<"moveBooking">, key = newKey()): Promise<Booking> {
    return this.post(`bookings/${id(bookingId)}/move`, wish, key);
  }

  bookSeries(wish: BodyOf<"bookSeries">, key = newKey()): Promise<BookingSeries> {
    return this.post("booking-series", wish, key);
  }

  getSeries(seriesId: string): Promise<BookingSeries> {
    return this.get(`booking-series/${id(seriesId)}`);
  }

  cancelSeries(seriesId: string, key = newKey()): Promise<BookingSeries> {
    return this.post(`booking-series/${id(seriesId)}/cancel`, undefined, key);
  }

  /** The address of the bookings as iCalendar, for other calendar programs. */
  bookingsFile(): string {
    return addressOf(this.serverSettings, "bookings.ics");
  }

  cancelBooking(bookingId: string, key = newKey()): Promise<Booking> {
    return this.post(`bookings/${id(bookingId)}/cancel`, undefined, key);
  }

  listLeases(query: { cursor?: string; limit?: number; state?: "open" | "closed" } = {}): Promise<Page<Lease>> {
    return this.get("leases", query);
  }

  getLease(leaseId: string): Promise<Lease> {
    return this.get(`leases/${id(leaseId)}`);
  }

  listReadings(leaseId: string, since?: string): Promise<AnswerOf<"listReadings">> {
    return this.get(`leases/${id(leaseId)}/readings`, { since });
  }

  getLog(leaseId: string): Promise<AnswerOf<"getLog">> {
    return this.get(`leases/${id(leaseId)}/log`);
  }

  extendLease(leaseId: string, seconds: number, key = newKey()): Promise<Lease> {
    return this.post(`leases/${id(leaseId)}/extend`, { seconds }, key);
  }

  shortenLease(leaseId: string, seconds: number, key = newKey()): Promise<Lease> {
    return this.post(`leases/${id(leaseId)}/shorten`, { seconds }, key);
  }

  endLease(leaseId: string, key = newKey()): Promise<Lease> {
    return this.post(`leases/${id(leaseId)}/end`, undefined, key);
  }

  getKernelPlace(kernelId: string): Promise<KernelPlace> {
    return this.get(`kernels/${id(kernelId)}`);
  }

  keepKernel(kernelId: string): Promise<KernelPlace> {
    return this.post(`kernels/${id(kernelId)}/keep`);
  }

  previewSwitch(wish: SwitchRequest): Promise<AnswerOf<"previewSwitch">> {
    return this.post("switches/preview", wish);
  }

  requestSwitch(wish: SwitchRequest, key = newKey()): Promise<Switch> {
    return this.post("switches", wish, key);
  }

  getSwitch(switchId: string): Promise<Switch> {
    return this.get(`switches/${id(switchId)}`);
  }

  cancelSwitch(switchId: string): Promise<Switch> {
    return this.post(`switches/${id(switchId)}/cancel`);
  }

  private get<Answer>(path: string, query: Record<string, string | number | undefined> = {}): Promise<Answer> {
    return this.ask(path, { query });
  }

  private post<Answer>(path: string, body?: unknown, key?: string): Promise<Answer> {
    return this.ask(path, { method: "POST", body, key });
  }

  private ask<Answer>(path: string, options: RequestOptions): Promise<Answer> {
    return this.isThere
      ? request(this.serverSettings, path, options)
      : Promise.reject(new ApiError("missing", "This Jupyter server has no ComputeHub."));
  }
}
