import { expect, test } from 'vitest';
import { findAll, parseXml, xmlNumber } from '../../../packages/core/src/slide/xml.ts';

test('elements, attributes and text, whatever their prefix', () => {
  const root = parseXml(`<?xml version="1.0"?><!DOCTYPE a>
    <!-- <b/> > --><n:a x='1' n:y = "a &lt; &quot;b&#x20;c&#33;" z="q>r"><b/><c>one<b k="2"/> two </c><![CDATA[<b/>]]></n:a>`)!;
  expect(root.name).toBe('a');
  expect([...root.attributes]).toEqual([
    ['x', '1'],
    ['y', 'a < "b c!'],
    ['z', 'q>r'],
  ]);
  expect(root.text).toBe('<b/>');
  expect(findAll(root, 'b').map(({ attributes }) => attributes.get('k'))).toEqual([undefined, '2']);
  expect(root.children[1]!.text).toBe('one two');
});

test('a text that was cut short ends what is open', () => {
  const whole = '<a><b x="1"/><c><d>text</d></c></a>';
  for (let end = 0; end < whole.length; end++) {
    const root = parseXml(whole.slice(0, end));
    if (end < 3) expect(root).toBeNull();
    else expect(root!.name).toBe('a');
  }
});

test('an end tag that fits nothing is passed over', () => {
  expect(parseXml('<a></b><c/></a>')!.children.map(({ name }) => name)).toEqual(['c']);
});

test('no element, too many and too deep ones are null', () => {
  expect(parseXml('no xml')).toBeNull();
  expect(parseXml('<'.repeat(100))).toBeNull();
  expect(parseXml(`<a>${'<b/>'.repeat(20_001)}</a>`)).toBeNull();
  expect(parseXml('<a>'.repeat(100))).toBeNull();
});

test.each([
  ['words without end', 'a'],
  ['spaces', ' '],
  ['opening brackets', '<'],
  ['quotes', '<a "'],
  ['equal signs', '='],
  ['attributes', 'a="'],
  ['comments', '<!--'],
  ['ampersands', '&'],
])('a megabyte of %s takes no time', (_, unit) => {
  const started = process.cpuUsage();
  parseXml(`<a ${unit.repeat(2 ** 20 / unit.length)}`);
  parseXml(`<a ${unit.repeat(2 ** 20 / unit.length)}>`);
  parseXml(unit.repeat(2 ** 20 / unit.length));
  const { user, system } = process.cpuUsage(started);
  // Of this process, whatever else the machine does: 0.3 s, and hours if the time grew with the square.
  expect((user + system) / 1e6).toBeLessThan(5);
});

test.each([
  ['1', 1],
  [' 0.25 ', 0.25],
  ['2.5E-4', 2.5e-4],
  ['-.5', -0.5],
  ['NaN', null],
  ['0x10', null],
  ['1,5', null],
  ['', null],
  [undefined, null],
])('%j is the number %j', (text, value) => {
  expect(xmlNumber(text)).toBe(value);
});
