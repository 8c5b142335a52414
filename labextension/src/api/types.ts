/** The contract's nouns under their own names; `schema.ts` is generated from openapi.yaml by `jlpm types`. */
import type * as schema from "./schema";

export type {
  Approval,
  Availability,
  Balance,
  Booking,
  BookingSeries,
  Defaults,
  Device,
  Estimate,
  HistoryLine,
  KernelPlace,
  Lease,
  LostName,
  Offer,
  Person,
  Preview,
  Quote,
  Span,
  Switch,
  SwitchRequest,
} from "./schema";

export type Operations = schema.operations;

/** What an operation takes as its body. */
export type BodyOf<Name extends keyof Operations> = Operations[Name] extends {
  requestBody: { content: { "application/json": infer Body } };
}
  ? Body
  : never;

/** What an operation answers when it went well. */
export type AnswerOf<Name extends keyof Operations> = {
  [Status in keyof Operations[Name]["responses"]]: Status extends 200 | 201 | 202
    ? Operations[Name]["responses"][Status] extends { content: { "application/json": infer Answer } }
      ? Answer
      : never
    : never;
}[keyof Operations[Name]["responses"]];

/** One page of a list; `next` is the cursor of the page after it. */
export interface Page<Item> {
  items: Item[];
  next: string | null;
}
