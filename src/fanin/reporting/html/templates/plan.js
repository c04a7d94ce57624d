"use strict";
(() => {
  const boxes = [...document.querySelectorAll("[data-box]")];
  const details = [...document.querySelectorAll("[data-details]")];
  const choose = (chosen) => {
    boxes.forEach((box) => box.setAttribute("aria-pressed", String(box === chosen)));
    details.forEach((one) => { one.hidden = one.dataset.details !== chosen.dataset.box; });
    // On a narrow screen the details stand below the picture, out of sight.
    if (matchMedia("(max-width: 60rem)").matches)
      details[Number(chosen.dataset.box)].scrollIntoView({ block: "nearest", behavior: "smooth" });
  };
  boxes.forEach((box) => {
    box.addEventListener("click", () => choose(box));
    box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choose(box);
    });
  });
})();
