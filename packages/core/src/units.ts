/**
 * Numbers that say what they count. A value of one unit is not assignable to another; arithmetic gives a plain `number`,
 * which must be given its unit again by the function named after it. The functions cast, they do not check: input is
 * checked where it is parsed.
 */
declare const unit: unique symbol;
type Quantity<U extends string> = number & { readonly [unit]: U };

/** Micrometres per pixel. */
export type Mpp = Quantity<'um/px'>;
/** Pixels at level 0 of a slide: the coordinate system of everything that is stored. */
export type BasePx = Quantity<'px at level 0'>;
/** Pixels at a level that the context names. */
export type LevelPx = Quantity<'px at a level'>;
/** Pixels of a tile as it is cut, at the target mpp. */
export type TilePx = Quantity<'px of a tile'>;
export type Bytes = Quantity<'bytes'>;
export type Seconds = Quantity<'s'>;

export const mpp = (value: number): Mpp => value as Mpp;
export const basePx = (value: number): BasePx => value as BasePx;
export const levelPx = (value: number): LevelPx => value as LevelPx;
export const tilePx = (value: number): TilePx => value as TilePx;
export const bytes = (value: number): Bytes => value as Bytes;
export const seconds = (value: number): Seconds => value as Seconds;
