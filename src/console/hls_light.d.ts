/** hls.js without what a live stream of ours never needs (DRM, subtitles, other audio); its types are those of the whole. */
declare module "hls.js/light" {
  export * from "hls.js";
  export { default } from "hls.js";
}
