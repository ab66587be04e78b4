/** As the system, light, dark. */

import { useState } from "preact/hooks";
import { Icon, type IconName } from "./icon";
import { chooseTheme, chosenTheme, type Theme } from "./theme";

const CHOICES: { theme: Theme; label: string; icon: IconName }[] = [
  { theme: "system", label: "As the system", icon: "half" },
  { theme: "light", label: "Light", icon: "sun" },
  { theme: "dark", label: "Dark", icon: "moon" },
];

export function ThemeSwitch() {
  const [theme, set] = useState(chosenTheme);
  return (
    <fieldset class="themes">
      <legend class="unseen">Colours</legend>
      {CHOICES.map((choice) => (
        <label key={choice.theme} title={choice.label}>
          <input
            type="radio"
            name="theme"
            class="unseen"
            checked={theme === choice.theme}
            onChange={() => {
              chooseTheme(choice.theme);
              set(choice.theme);
            }}
          />
          <Icon name={choice.icon} />
          <span class="unseen">{choice.label}</span>
        </label>
      ))}
    </fieldset>
  );
}
