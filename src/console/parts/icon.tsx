/** Small drawings, in the colour of the text round them. They say nothing to a screen reader; the words beside them do. */

const PATHS = {
  home: "M4 11.5 12 4l8 7.5M6 10v9.5h4.5V14h3v5.5H18V10",
  person: "M12 12.2a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM4.5 20c.8-3.6 3.8-5.5 7.5-5.5s6.7 1.9 7.5 5.5",
  shield: "M12 3.5 5 6v5.5c0 4.3 2.9 7.6 7 9 4.1-1.4 7-4.7 7-9V6l-7-2.5ZM9 12l2.2 2.2L15.3 10",
  devices: "M4 5.5h12v5M4 5.5v9.5h8M2.5 18.5H12M15 10.5h5.5v9H15zM17.3 17.5h.9",
  book: "M5 4.5h10.5A2.5 2.5 0 0 1 18 7v12.5H7A2 2 0 0 1 5 17.5zM5 17.5a2 2 0 0 1 2-2h11M8.5 8.5h6",
  leave: "M14 4.5H6v15h8M10.5 12H20M16.5 8.5 20 12l-3.5 3.5",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6 6 18",
  sun: "M12 15.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6 7 7M17 17l1.4 1.4M18.4 5.6 17 7M7 17l-1.4 1.4",
  moon: "M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10Z",
  half: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16ZM12 4v16",
  laptop: "M6 5.5h12v9.5H6zM3.5 18.5h17",
  phone: "M8 3.5h8v17H8zM11.3 17.7h1.4",
  copy: "M8.5 8.5h11v11h-11zM15.5 8.5v-4h-11v11h4",
  download: "M12 4v11M7.5 11 12 15.5 16.5 11M5 19.5h14",
  check: "M5 12.5 10 17.5 19.5 7",
  warn: "M12 4 3 19.5h18zM12 10v4.5M12 17v.2",
  eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12ZM12 14.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5Z",
  arrow: "M5 12h14M13 6l6 6-6 6",
  back: "M19 12H5M11 6l-6 6 6 6",
  down: "M12 5v14M6 13l6 6 6-6",
  chat: "M5.5 5h13A1.5 1.5 0 0 1 20 6.5v8a1.5 1.5 0 0 1-1.5 1.5H11l-4.5 4v-4h-1A1.5 1.5 0 0 1 4 14.5v-8A1.5 1.5 0 0 1 5.5 5Z",
  plus: "M12 5v14M5 12h14",
  send: "M4.5 12 20 4.5 15 20l-3.5-6.5zM11.5 13.5 20 4.5",
  reply: "M9.5 6 4 11.5 9.5 17M4.5 11.5H14a6 6 0 0 1 6 6v1",
  edit: "M5 19l.8-4L16 4.8a1.4 1.4 0 0 1 2 0l1.2 1.2a1.4 1.4 0 0 1 0 2L9 18.2z",
  bin: "M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7M10.3 10.5v5.5M13.7 10.5v5.5",
  smile: "M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16ZM8.7 14c.8 1.2 1.9 1.8 3.3 1.8s2.5-.6 3.3-1.8M9.3 9.8v.2M14.7 9.8v.2",
  clock: "M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16ZM12 7.5V12l3 2",
  ticks: "M2.5 12.5 7 17l9-10M11.5 16l1 1 9-10",
  people: "M9 11.5a3.3 3.3 0 1 0 0-6.6 3.3 3.3 0 0 0 0 6.6ZM3 19c.6-3.2 3-4.9 6-4.9s5.4 1.7 6 4.9M15.5 5.2a3.3 3.3 0 0 1 0 6.1M17.5 14.6c1.9.7 3.1 2.2 3.5 4.4",
  muted: "M6.5 10a5.5 5.5 0 0 1 9.8-3.4M17.5 10.5c0 4 2 5.5 2 5.5H8M6.5 10c0 4.5-2 6-2 6M10.3 19a2 2 0 0 0 3.4 0M4 4l16 16",
  live: "M12 14a2 2 0 1 0 0-4 2 2 0 0 0 0 4ZM8.3 15.7a5.2 5.2 0 0 1 0-7.4M15.7 8.3a5.2 5.2 0 0 1 0 7.4M5.6 18.4a9 9 0 0 1 0-12.8M18.4 5.6a9 9 0 0 1 0 12.8",
  play: "M8 5.5 18.5 12 8 18.5z",
  pause: "M8.5 5.5v13M15.5 5.5v13",
  sound: "M4.5 9.5v5H8l4.5 4v-13l-4.5 4zM15.5 9a4.2 4.2 0 0 1 0 6M18 6.5a7.8 7.8 0 0 1 0 11",
  silent: "M4.5 9.5v5H8l4.5 4v-13l-4.5 4zM16 9.5l5 5M21 9.5l-5 5",
  whole: "M4.5 9V4.5H9M15 4.5h4.5V9M19.5 15v4.5H15M9 19.5H4.5V15",
  part: "M9 4.5V9H4.5M19.5 9H15V4.5M15 19.5V15h4.5M4.5 15H9v4.5",
  key: "M8 17.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9ZM11.5 10.5 20 5.5M16.5 7.6l2 3.4",
  mic: "M12 14.5a3 3 0 0 0 3-3v-4a3 3 0 0 0-6 0v4a3 3 0 0 0 3 3ZM6 11.5a6 6 0 0 0 12 0M12 17.5v3",
  mic_off: "M15 9V7.5a3 3 0 0 0-5.7-1.3M9 9.5v2a3 3 0 0 0 4.5 2.6M6 11.5a6 6 0 0 0 9.3 5M18 11.5a6 6 0 0 1-.4 2.1M12 17.5v3M4 4l16 16",
  call: "M7 4.5h2.600l1.400 3.800-2 1.400a10.500 10.500 0 0 0 5.300 5.300l1.400-2 3.800 1.400V17a2.500 2.500 0 0 1-2.700 2.500A14.500 14.500 0 0 1 4.500 7.200 2.500 2.500 0 0 1 7 4.500Z",
  camera: "M4 7.5h10.5v9H4zM14.5 11l5.5-3v8l-5.5-3z",
  camera_off: "M9 7.5h5.5V13M14.5 11l5.5-3v8l-3.5-2M12.5 16.5H4v-9h1.5M4 4l16 16",
  hand: "M8 12V6.5a1.3 1.3 0 0 1 2.6 0V11M10.6 11V5.3a1.3 1.3 0 0 1 2.6 0V11M13.2 11V6.5a1.3 1.3 0 0 1 2.6 0V14M8 12.5 6.4 11a1.4 1.4 0 0 0-2 2l4 5c1 1.3 2 2 4 2 2.400 0 3.400-1.600 3.400-4V10",
  more: "M5.5 12h.2M12 12h.2M18.5 12h.2",
  feed: "M5 5.5h14M5 10h14M5 14.5h9M5 19h6",
  heart: "M12 19.5S4 14.8 4 9.4A4.2 4.2 0 0 1 12 7.6a4.2 4.2 0 0 1 8 1.8c0 5.4-8 10.1-8 10.1Z",
  bolt: "M13.5 3.5 6 13.5h5l-1 7 7.5-10h-5z",
  lock: "M6.5 11h11v8.5h-11zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, filled }: { name: IconName; filled?: boolean }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" width="20" height="20" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} fill={filled ? "currentColor" : "none"} stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round" />
    </svg>
  );
}

/** Nova's own sign. */
export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" width="28" height="28" aria-hidden="true" focusable="false">
      <rect class="ground" width="32" height="32" rx="8" />
      <path d="M16 4.5c.9 6.6 4.9 10.6 11.5 11.5C20.9 16.9 16.9 20.9 16 27.5 15.1 20.9 11.1 16.9 4.5 16 11.1 15.1 15.1 11.1 16 4.5z" />
    </svg>
  );
}
