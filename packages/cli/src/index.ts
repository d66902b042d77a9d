export * from './command.ts';
export * from './flags.ts';
export * from './format.ts';
export * from './program.ts';
export * from './terminal.ts';
