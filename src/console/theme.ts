/** Sets the chosen theme before the first paint. Runs on its own, ahead of the bundle; `parts/theme.ts` has the switch. */
import { chosenTheme, wear } from "./parts/theme";

wear(chosenTheme());
